"""A one-row prediction over the Showroom's JSON API, beside a bare FastAPI application in the same run.

The rival is as little as does the same: it checks a signed token, predicts in its own process, and commits
one row to the same MariaDB. The Showroom authenticates with Airflow, runs the four steps with the model in a
process of its own, and commits the dispatch with its events. Between them stands the same request for a model
that does not exist: Airflow authenticates it, the role is asked for, and nothing is done.
One client by turns, then eight at once; medians in milliseconds, and requests per second.

    python -m benchmarks.showroom [--requests 400] [--clients 8]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from mlops_plugin.events.migrating import upgrade
from support.airflow_process import running_airflow
from support.servers import ServerDatabase, free_port, start_mariadb
from support.workshop import Workshop

BARE, NOTHING, SHOWROOM = "bare FastAPI", "Airflow, nothing done", "Showroom"
_FEATURES = 30
_RIVAL = """
import os
from datetime import UTC, datetime

import jwt
import numpy as np
import skops.io
import sqlalchemy as sa
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from threadpoolctl import threadpool_limits

threadpool_limits(1)
model = skops.io.load(os.environ["RIVAL_MODEL"], trusted=os.environ["RIVAL_TRUSTED"].split())
features = list(model.feature_names_in_)
engine = sa.create_engine(os.environ["RIVAL_DATABASE"], pool_size=10)
with engine.begin() as connection:
    connection.execute(sa.text(
        "CREATE TABLE rival "
        "(id BIGINT AUTO_INCREMENT PRIMARY KEY, at DATETIME(6), who VARCHAR(100), said DOUBLE)"
    ))
insert = sa.text("INSERT INTO rival (at, who, said) VALUES (:at, :who, :said)")


class Asked(BaseModel):
    rows: list[dict[str, float]]


def user(authorization: str = Header()) -> str:
    try:
        token = authorization.removeprefix("Bearer ")
        return jwt.decode(token, os.environ["RIVAL_SECRET"], algorithms=["HS512"])["sub"]
    except jwt.InvalidTokenError as error:
        raise HTTPException(401) from error


app = FastAPI()


@app.post("/predict")
def predict(asked: Asked, who: str = Depends(user)) -> dict[str, list[list[float]]]:
    import pandas as pd

    rows = pd.DataFrame([[row[name] for name in features] for row in asked.rows], columns=features)
    chances = model.predict_proba(rows)
    with engine.begin() as connection:
        connection.execute(insert, {"at": datetime.now(UTC), "who": who, "said": float(chances[0, 0])})
    return {"probabilities": chances.tolist()}


uvicorn.run(app, host="127.0.0.1", port=int(os.environ["RIVAL_PORT"]), log_level="warning", access_log=False)
"""


@dataclass(frozen=True)
class Service:
    """Where a request goes, and as whom."""

    port: int
    path: str
    token: str
    status: int = 200  # of its answers

    def ask(self, connection: http.client.HTTPConnection, body: bytes) -> None:
        """One request; any failure ends the benchmark."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection.request("POST", self.path, body, headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != self.status:
            raise SystemExit(f"{self.path}: {answer.status} {said.decode()[:500]}")

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def milliseconds(services: dict[str, Service], body: bytes, requests: int) -> dict[str, list[float]]:
    """Every service by turns, one request at a time."""
    connections = {name: service.connect() for name, service in services.items()}
    spent: dict[str, list[float]] = {name: [] for name in services}
    for _ in range(requests):
        for name, service in services.items():
            started = time.perf_counter()
            service.ask(connections[name], body)
            spent[name].append((time.perf_counter() - started) * 1000)
    return spent


def requests_per_second(service: Service, body: bytes, requests: int, clients: int) -> float:
    """Several clients at once, each with a connection of its own."""

    def work() -> None:
        connection = service.connect()
        for _ in range(requests // clients):
            service.ask(connection, body)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return requests // clients * clients / (time.perf_counter() - started)


def train(workshop: Workshop) -> list[str]:
    """Save HistGradientBoosting on 30 features; returns the types that it needs trusted."""
    import numpy as np
    import pandas as pd
    import skops.io
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(3)
    rows = pd.DataFrame(rng.normal(size=(2000, _FEATURES)), columns=[f"f{n:02}" for n in range(_FEATURES)])
    model = HistGradientBoostingClassifier(max_iter=100, random_state=0).fit(
        rows, rows.iloc[:, 0] * rows.iloc[:, 1] > 0
    )
    file = workshop.folder / "boosted.skops"
    skops.io.dump(model, file)
    trusted: list[str] = skops.io.get_untrusted_types(file=file)
    workshop.add_model("boosted", model={"format": "skops", "uri": file.name, "trusted": trusted})
    return trusted


@contextmanager
def rival(workshop: Workshop, database: ServerDatabase, trusted: list[str]) -> Iterator[Service]:
    """The bare application, running."""
    import jwt

    port = free_port()
    secret = secrets.token_hex(64)
    environment = {
        "RIVAL_MODEL": str(workshop.folder / "boosted.skops"),
        "RIVAL_TRUSTED": " ".join(trusted),
        "RIVAL_DATABASE": database.sqlalchemy_url(),
        "RIVAL_SECRET": secret,
        "RIVAL_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen([sys.executable, "-c", _RIVAL], env={**os.environ, **environment})
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        token = jwt.encode({"sub": "admin", "exp": int(time.time()) + 3600}, secret, algorithm="HS512")
        yield Service(port, "/predict", token)
    finally:
        process.terminate()
        process.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, start_mariadb() as server:
        workshop = Workshop(Path(name))
        workshop.connections["events"] = server.new_database().airflow_uri()
        trusted = train(workshop)
        os.environ.update(workshop.environment)
        with workshop.deployment.event_store() as store:
            upgrade(store.address)
        body = json.dumps({"rows": [{f"f{n:02}": n / 10 for n in range(_FEATURES)}]}).encode()
        with (
            running_airflow(workshop, components=["api-server"], roles=["Admin"]) as airflow,
            rival(workshop, server.new_database(), trusted) as bare,
        ):
            sign_in = {"username": "admin", "password": "admin"}
            token = str(airflow.api.call("POST", "/auth/token", sign_in)["access_token"])
            port = int(airflow.api.url.rsplit(":", 1)[1])
            models = "/mlops/api/v1/showroom/models"
            services = {
                BARE: bare,
                NOTHING: Service(port, f"{models}/nothing/runs", token, status=404),
                SHOWROOM: Service(port, f"{models}/boosted/runs", token),
            }
            milliseconds(services, body, 30)  # the first requests load the model and open connections
            spent = milliseconds(services, body, options.requests)
            rates = {
                name: requests_per_second(service, body, options.requests, options.clients)
                for name, service in services.items()
            }
    print("one row, HistGradientBoosting on 30 features, event committed to MariaDB")
    print(f"{'':24} {'p50 ms':>8} {'p95 ms':>8} {f'requests/s, {options.clients} clients':>24}")
    for name, times in spent.items():
        p95 = statistics.quantiles(times, n=20)[-1]
        print(f"{name:24} {statistics.median(times):8.2f} {p95:8.2f} {rates[name]:24.0f}")
    slower = statistics.median(spent[SHOWROOM]) / statistics.median(spent[BARE])
    print(f"{'ratio':24} {slower:8.2f} {'':8} {rates[SHOWROOM] / rates[BARE]:24.2f}")


if __name__ == "__main__":
    main()
