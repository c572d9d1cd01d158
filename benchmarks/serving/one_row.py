"""One row over HTTP, its event committed to MariaDB, beside a lean application and MLServer in the same run.

`mlops serve` and the Showroom's API check Airflow's token and the user's rights, run the model in a confined
process, and answer when the dispatch with its events is committed. The lean application (FastAPI) checks a
token, predicts in its own process, and commits one row. MLServer checks and records nothing. One client, then
8, then 64; each service by turns, medians of the repetitions.

    python -m benchmarks.serving.one_row [--seconds 10] [--repeat 3]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from benchmarks.serving.clients import Asked, Service, ask
from benchmarks.serving.rivals import Rows, lean_application, matrix_of, mlserver
from mlops_plugin.events.migrating import upgrade
from support.airflow_process import RunningAirflow, airflow_environment, running_airflow
from support.metadata_database import FAB
from support.servers import free_port, start_mariadb, start_postgres
from support.workshop import Workshop

LEAN, MLSERVER, SERVE, SHOWROOM = "lean FastAPI", "MLServer", "mlops serve", "Showroom's API"
CLIENTS = (1, 8, 64)
# The Showroom is for people: it turns away what exceeds four requests of a model.
_ONLY_ALONE = {SHOWROOM}
_FEATURES = 20
_ROWS = 100  # that each client asks about in turn
_WARM_S = 3.0


@dataclass(frozen=True)
class Measured:
    """Medians of what a service did for so many clients."""

    p50_ms: float
    p99_ms: float
    per_second: float

    @classmethod
    def of(cls, runs: Sequence[Asked]) -> Measured:
        return cls(
            statistics.median(run.percentile(50) for run in runs),
            statistics.median(run.percentile(99) for run in runs),
            statistics.median(run.per_second for run in runs),
        )


def train(workshop: Workshop) -> Path:
    """Save LogisticRegression, and add it to the workshop as `scored`; returns its file."""
    import numpy as np
    import skops.io
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(3)
    rows = rng.normal(size=(2000, _FEATURES))
    file = workshop.folder / "scored.skops"
    skops.io.dump(LogisticRegression().fit(rows, rows[:, 0] + rows[:, 1] > 0), file)
    features = [f"f{number:02}" for number in range(_FEATURES)]
    workshop.add_model("scored", model={"format": "skops", "uri": file.name}, features=features)
    return file


@contextlib.contextmanager
def serve(airflow: RunningAirflow, rows: Rows, token: str) -> Iterator[Service]:
    """`mlops serve` with its default number of processes."""
    port = free_port()
    environment = {
        **os.environ,
        **airflow_environment(airflow.workshop, port),
        "AIRFLOW__CORE__AUTH_MANAGER": FAB,
    }
    command = [sys.executable, "-m", "mlops_plugin.cli", "serve", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}/v2/health/ready")
        bodies = [json.dumps({"inputs": [matrix_of("features", row)]}).encode() for row in rows]
        yield Service(port, "/v2/models/scored/infer", bodies, {"Authorization": f"Bearer {token}"})
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310
            return
        time.sleep(0.2)
    raise SystemExit("mlops serve did not start")


def showroom(airflow: RunningAirflow, rows: Rows, token: str) -> Service:
    """The Showroom's API of Airflow's own server."""
    port = int(airflow.api.url.rsplit(":", 1)[1])
    path = "/mlops/api/v1/showroom/models/scored/runs"
    named = ({f"f{number:02}": value for number, value in enumerate(row)} for row in rows)
    bodies = [json.dumps({"rows": [values]}).encode() for values in named]
    return Service(port, path, bodies, {"Authorization": f"Bearer {token}"})


def measure(services: dict[str, Service], seconds: float, repeat: int) -> dict[str, dict[int, Measured]]:
    """Every service by turns, by its name and the number of clients."""
    runs: dict[tuple[str, int], list[Asked]] = {}
    for service in services.values():
        ask(service, clients=4, seconds=_WARM_S)  # models are loaded, connections opened
    for _ in range(repeat):
        for clients in CLIENTS:
            for name, service in services.items():
                if clients == 1 or name not in _ONLY_ALONE:
                    runs.setdefault((name, clients), []).append(
                        ask(service, clients=clients, seconds=seconds)
                    )
    found: dict[str, dict[int, Measured]] = {name: {} for name in services}
    for (name, clients), each in runs.items():
        found[name][clients] = Measured.of(each)
    return found


def show(found: dict[str, dict[int, Measured]]) -> None:
    """Print a table, with ratios to MLServer."""
    print("one row, LogisticRegression on 20 features")
    print(
        f"{'':16}{'clients':>8}{'p50 ms':>9}{'p99 ms':>9}{'per s':>8}   p50, p99 and rate beside MLServer's"
    )
    for name, by_clients in found.items():
        for clients, each in by_clients.items():
            peer = found[MLSERVER][clients]
            ratios = (each.p50_ms / peer.p50_ms, each.p99_ms / peer.p99_ms, each.per_second / peer.per_second)
            shown = "  ".join(f"{ratio:5.2f}" for ratio in ratios)
            line = f"{name:16}{clients:8}{each.p50_ms:9.2f}{each.p99_ms:9.2f}{each.per_second:8.0f}"
            print(f"{line}   {shown}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args(arguments)
    rows = [[(number + other) / 10 for number in range(_FEATURES)] for other in range(_ROWS)]
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        database = held.enter_context(start_mariadb(is_durable=True))
        metadata = held.enter_context(start_postgres())
        workshop = Workshop(folder)
        workshop.connections["events"] = database.new_database().airflow_uri()
        workshop.metadata = metadata.new_database()
        artifact = train(workshop)
        os.environ.update(workshop.environment)
        with workshop.deployment.event_store() as store:
            upgrade(store.address)
        airflow = held.enter_context(running_airflow(workshop, components=["api-server"], roles=["Admin"]))
        sign_in = {"username": "admin", "password": "admin"}
        token = str(airflow.api.call("POST", "/auth/token", sign_in)["access_token"])
        services = {
            LEAN: held.enter_context(lean_application(artifact, database.new_database(), rows)),
            MLSERVER: held.enter_context(mlserver(folder / "mlserver", rows)),
            SERVE: held.enter_context(serve(airflow, rows, token)),
            SHOWROOM: showroom(airflow, rows, token),
        }
        show(measure(services, options.seconds, options.repeat))


if __name__ == "__main__":
    main()
