"""What people serve a model with otherwise: an application of a page, and MLServer."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.clients import Service
from benchmarks.warehouse import peer_driver
from support.servers import ServerDatabase, free_port

# With a newer uvloop its processes end at once.
MLSERVER = ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop<0.22")
_ENVIRONMENT = Path(__file__).resolve().parents[2] / ".local" / "mlserver"
_STARTS_WITHIN_S = 120.0
Rows = Sequence[Sequence[float]]
_LEAN = """
import os
from datetime import UTC, datetime
from threading import local

import jwt
import numpy as np
import skops.io
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

password = os.environ["RIVAL_PASSWORD"]
try:
    import MySQLdb as driver
except ImportError:
    import pymysql as driver

    password = password.encode()  # it would write text in Latin-1

model = skops.io.load(os.environ["RIVAL_MODEL"])
kept = local()


def connection():
    if not hasattr(kept, "connection"):
        kept.connection = driver.connect(
            host="127.0.0.1", port=int(os.environ["RIVAL_DATABASE_PORT"]), user=os.environ["RIVAL_USER"],
            password=password, database=os.environ["RIVAL_DATABASE"], autocommit=True,
        )
    return kept.connection


connection().cursor().execute(
    "CREATE TABLE rival "
    "(id BIGINT AUTO_INCREMENT PRIMARY KEY, at DATETIME(6), who VARCHAR(100), answer DOUBLE)"
)


class Asked(BaseModel):
    rows: list[list[float]]


def user(authorization: str = Header()) -> str:
    try:
        token = authorization.removeprefix("Bearer ")
        return jwt.decode(token, os.environ["RIVAL_SECRET"], algorithms=["HS512"])["sub"]
    except jwt.InvalidTokenError as error:
        raise HTTPException(401) from error


app = FastAPI()


@app.post("/predict")
def predict(asked: Asked, who: str = Depends(user)) -> dict[str, list[list[float]]]:
    chances = model.predict_proba(np.array(asked.rows))
    connection().cursor().execute(
        "INSERT INTO rival (at, who, answer) VALUES (%s, %s, %s)",
        (datetime.now(UTC).replace(tzinfo=None), who, float(chances[0, 0])),
    )
    return {"probabilities": chances.tolist()}


uvicorn.run(app, host="127.0.0.1", port=int(os.environ["RIVAL_PORT"]), log_level="warning", access_log=False)
"""
# Trained in MLServer's own environment: its scikit-learn may be another one.
_TRAIN = """
import sys
import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression

rng = np.random.default_rng(3)
rows = rng.normal(size=(2000, int(sys.argv[2])))
joblib.dump(LogisticRegression().fit(rows, rows[:, 0] + rows[:, 1] > 0), sys.argv[1])
"""


def matrix_of(name: str, row: Sequence[float]) -> dict[str, Any]:
    """One row as a tensor of the Open Inference Protocol."""
    return {"name": name, "shape": [1, len(row)], "datatype": "FP64", "data": list(row)}


@contextlib.contextmanager
def lean_application(artifact: Path, database: ServerDatabase, rows: Rows) -> Iterator[Service]:
    """FastAPI in one process: it checks a signed token, predicts from a matrix, and commits one row."""
    import jwt

    port, secret = free_port(), secrets.token_hex(64)
    _, package = peer_driver()
    environment = {
        "RIVAL_MODEL": str(artifact),
        "RIVAL_DATABASE_PORT": str(database.port),
        "RIVAL_DATABASE": database.database,
        "RIVAL_USER": database.user,
        "RIVAL_PASSWORD": database.password,
        "RIVAL_SECRET": secret,
        "RIVAL_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    if package is not None:  # only this one, not everything that Debian has installed
        lent = artifact.parent / "driver"
        lent.mkdir()
        (lent / package.name).symlink_to(package)
        environment["PYTHONPATH"] = str(lent)
    token = jwt.encode({"sub": "admin", "exp": int(time.time()) + 3600}, secret, algorithm="HS512")
    with _running(
        [sys.executable, "-c", _LEAN], environment, lambda: _listens(port), artifact.parent / "lean.log"
    ):
        bodies = [json.dumps({"rows": [list(row)]}).encode() for row in rows]
        yield Service(port, "/predict", bodies, {"Authorization": f"Bearer {token}"})


@contextlib.contextmanager
def mlserver(folder: Path, rows: Rows) -> Iterator[Service]:
    """MLServer as its documentation starts it; it knows no users and keeps no record."""
    python = _mlserver_python()
    folder.mkdir()
    subprocess.run([python, "-c", _TRAIN, folder / "model.joblib", str(len(rows[0]))], check=True)
    port = free_port()
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "debug": False}
    model = {
        "name": "scored",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib", "version": "1"},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    command = [str(python.with_name("mlserver")), "start", str(folder)]
    ready = f"http://127.0.0.1:{port}/v2/models/scored/ready"
    log = folder / "mlserver.log"
    with _running(command, {"OMP_NUM_THREADS": "1"}, lambda: _answers(ready), log):
        outputs = [{"name": "predict_proba"}]
        bodies = [
            json.dumps({"inputs": [matrix_of("predict", row)], "outputs": outputs}).encode() for row in rows
        ]
        yield Service(port, "/v2/models/scored/infer", bodies)


def _mlserver_python() -> Path:
    """MLServer does not install beside Airflow: it gets an environment of its own, made once."""
    python = _ENVIRONMENT / "bin" / "python"
    if not (_ENVIRONMENT / "bin" / "mlserver").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(_ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *MLSERVER], check=True)
    return python


@contextlib.contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str], is_ready: Callable[[], bool], log: Path
) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, cwd=log.parent, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310
        return True
    return False
