"""A dispatch whose model runs in a process of its own, beside the same one in the task's process.

Each is a fresh process that runs all steps from one SQLite file to another: with the libraries to import, and
with them loaded, as in a worker that forks its tasks. Prints the processor seconds of all its processes, the
seconds by the clock, and the ratio of each. The predictions are compared bit for bit.

    python -m benchmarks.isolation [--rows 1000000] [--repeat 3] [--models LogisticRegression]
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

FEATURES = 20
SMALL_ROWS = 100
TRAINED_ROWS = 20_000
MODELS = {"LogisticRegression": LogisticRegression, "HistGradientBoosting": HistGradientBoostingClassifier}
_DISPATCH = """
import contextlib, os, resource, socket, sys, time
from datetime import UTC, datetime
from pathlib import Path
from mlops_plugin.config.loader import load_config
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import Dispatch, new_dispatch_id
from mlops_plugin.pipeline.runner import run_dispatch

def cpu_of(pid):
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / TICKS

TICKS, servers, before = os.sysconf("SC_CLK_TCK"), [], 0.0
if sys.argv[3] == "loaded":
    from mlops_plugin.preload import preload
    from mlops_plugin.workers import forking
    preload(["scheduler"])
    servers = forking.SERVERS
    for server in servers:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            while client.connect_ex("\\0" + os.environ[forking.VARIABLE]):
                time.sleep(0.1)  # it loads the libraries
        before = cpu_of(server.pid)
loaded = load_config(Path(sys.argv[1]))
model = loaded.model(sys.argv[2])
deployment = Deployment.of_airflow(loaded.config.events, loaded.config.staging)
began, cpu_began = time.perf_counter(), time.process_time()

@contextlib.contextmanager
def watch(step):
    yield lambda rows: None

now = datetime.now(UTC)
dispatch = Dispatch(id=new_dispatch_id(), model=model, origin="terminal", data_interval=(now, now))
run_dispatch(dispatch, deployment, lambda: model.source.query, watch)
seconds = time.perf_counter() - began
for server in servers:
    server.stdin.close()  # it ends, and what its children took is counted here
    server.wait()
children = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = time.process_time() - cpu_began + children.ru_utime + children.ru_stime - before
print(cpu, seconds)
"""


@dataclass(frozen=True)
class Spent:
    """What one dispatch took."""

    cpu_s: float
    seconds: float


def prepare(folder: Path, rows: int, models: Sequence[str]) -> dict[str, str]:
    """Rows, models and configuration; returns the environment of a dispatch."""
    names = [f"f{number}" for number in range(FEATURES)]
    values = np.random.default_rng(0).normal(size=(max(rows, TRAINED_ROWS), FEATURES))
    with sqlite3.connect(folder / "source.db") as source:
        source.execute(f"CREATE TABLE x (id INTEGER PRIMARY KEY, {', '.join(f'{n} REAL' for n in names)})")
        marks = ", ".join("?" * (FEATURES + 1))
        source.executemany(
            f"INSERT INTO x VALUES ({marks})",
            ((number, *row) for number, row in enumerate(values.tolist())),
        )
    source.close()
    entries: dict[str, Any] = {}
    for model in models:
        sample = values[:TRAINED_ROWS]
        fitted = MODELS[model]().fit(sample, sample[:, :5].sum(axis=1) > 0)
        content = pickle.dumps(fitted)
        (folder / f"{model}.pickle").write_bytes(content)
        for count in (SMALL_ROWS, rows):
            for isolation in ("none", "process"):
                name = f"{model}_{count}_{isolation}"
                entries[name] = {
                    "key": ["id"],
                    "features": names,
                    "model": {
                        "format": "pickle",
                        "uri": f"{model}.pickle",
                        "sha256": sha256(content).hexdigest(),
                        "isolation": isolation,
                    },
                    "source": {"connection": "source", "query": f"SELECT * FROM x WHERE id < {count}"},
                    "sink": {"connection": "sink", "table": name, "mode": "replace", "create": True},
                }
    (folder / "config.yaml").write_text(yaml.safe_dump({"models": entries}))
    return {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_SOURCE": f"sqlite:///{folder}/source.db",
        "AIRFLOW_CONN_SINK": f"sqlite:///{folder}/sink.db",
    }


def dispatch(folder: Path, environment: dict[str, str], model: str, libraries: str) -> Spent:
    """One dispatch in a process of its own."""
    command = [sys.executable, "-c", _DISPATCH, str(folder / "config.yaml"), model, libraries]
    done = subprocess.run(
        command,
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    cpu_s, seconds = done.stdout.split()[-2:]
    return Spent(float(cpu_s), float(seconds))


def require_same(folder: Path, one: str, other: str) -> None:
    """Raise if two tables of predictions differ in one bit."""
    with sqlite3.connect(folder / "sink.db") as sink:
        columns = [row[1] for row in sink.execute(f"PRAGMA table_info({one})") if row[1].startswith("pr")]
        listed = ", ".join(f'"{name}"' for name in ["id", *(n for n in columns if n != "predicted_at")])
        answers = [
            sink.execute(f"SELECT {listed} FROM {name} ORDER BY id").fetchall() for name in (one, other)
        ]
    sink.close()
    if answers[0] != answers[1]:
        raise SystemExit(f"{one} and {other} do not hold the same predictions")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    options, _ = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mlops-isolation-") as place:
        folder = Path(place)
        environment = prepare(folder, options.rows, options.models)
        subprocess.run(
            [
                sys.executable,
                "-m",
                "mlops_plugin.cli",
                "--config",
                str(folder / "config.yaml"),
                "db",
                "upgrade",
            ],
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for model in options.models:
            for rows in (SMALL_ROWS, options.rows):
                for libraries in ("imported", "loaded"):
                    _compare(folder, environment, (model, rows, libraries), options.repeat)


def _compare(folder: Path, environment: dict[str, str], what: tuple[str, int, str], repeat: int) -> None:
    model, rows, libraries = what
    names = [f"{model}_{rows}_{isolation}" for isolation in ("none", "process")]
    runs = [[dispatch(folder, environment, name, libraries) for name in names] for _ in range(repeat)]
    require_same(folder, *names)
    here, apart = (
        Spent(
            statistics.median(run[place].cpu_s for run in runs),
            statistics.median(run[place].seconds for run in runs),
        )
        for place in (0, 1)
    )
    spent = {
        "model": model,
        "rows": rows,
        "libraries": libraries,
        "cpu_s": [round(here.cpu_s, 2), round(apart.cpu_s, 2)],
        "seconds": [round(here.seconds, 2), round(apart.seconds, 2)],
        "cpu_ratio": round(apart.cpu_s / here.cpu_s, 3),
        "clock_ratio": round(apart.seconds / here.seconds, 3),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(spent), flush=True)


if __name__ == "__main__":
    main()
