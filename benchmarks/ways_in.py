"""A dispatch over each way into a database, beside the script that people write for the same engine.

Every way reads rows of a key and 20 doubles and appends the predictions to the same database. The dispatch's
steps and the script are processes of their own, with their libraries loaded. Prints medians, and the ratio of
the script's seconds to the dispatch's.

    python -m benchmarks.ways_in [--rows 200000] [--repeat 3] [--ways mysql postgres ...] [--quick]
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
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import skops.io
import yaml
from sklearn.linear_model import LogisticRegression

from benchmarks.warehouse import REPOSITORY, SERVER_OPTIONS, peer_driver
from mlops_plugin.config.schema import EventsConfig, SinkConfig
from mlops_plugin.databases.sink.predictions_table import create_statement
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.migrating import upgrade
from support.servers import start_mariadb, start_postgres
from support.ways_in import INTO_MARIADB, WAYS_IN, WayIn, spec_of, sqlite_way

COLUMNS = tuple(f"x{number}" for number in range(20))
STEPS = ("collect", "log", "infer", "persist")
SCRIPT_TABLE = "predictions_of_the_script"
CHUNK_ROWS = 50_000
QUICK_ROWS = 10_000
_TRAINING_ROWS = 5_000
_SQLALCHEMY = {"mysql": f"mysql+{peer_driver()[0]}", "postgres": "postgresql+psycopg2"}


class Place:
    """One way in: rows in table `measurements`, and a deployment that predicts them."""

    def __init__(self, way: WayIn, folder: Path, rows: int) -> None:
        self.way = way
        self._folder = folder
        self._rows = rows
        self._fill()
        self._train()
        self._configure()
        upgrade(StoreAddress.of(EventsConfig(), None, folder / "airflow"))

    def dispatch(self) -> float:
        """Seconds of the four steps."""
        task = {"what": "step", "config": str(self._config), "model": "wide", "dispatch": str(uuid.uuid4())}
        return sum(self._run({**task, "step": step}) for step in STEPS)

    def script(self) -> float:
        """Seconds of pandas over SQLAlchemy, in chunks, into a table with the columns that the sink shows."""
        task = {
            "what": "ordinary",
            "url": self._url(),
            "artifact": str(self._artifact),
            "trusted": [],
            "query": self._query,
            "table": SCRIPT_TABLE,
            "chunk_rows": CHUNK_ROWS,
        }
        return self._run(task)

    def make_script_table(self) -> None:
        """Make the script's table, once a dispatch has made the sink."""
        sink = SinkConfig(connection="way", table=SCRIPT_TABLE, mode="append")
        with self.way.open() as database:
            shown = database.read("SELECT * FROM predictions WHERE 1 = 0", batch_rows=1).schema
            database.execute(create_statement(database.engine, sink, key=["id"], schema=shown))
            database.commit()

    def empty(self) -> None:
        """Remove the predictions."""
        self.way.execute("DELETE FROM predictions_rows", f"DELETE FROM {SCRIPT_TABLE}")

    def count(self, table: str = "predictions") -> int:
        """How many predictions there are."""
        ((count,),) = self.way.rows(f"SELECT COUNT(*) FROM {table}")
        return int(count)

    @property
    def _query(self) -> str:
        return f"SELECT id, {', '.join(COLUMNS)} FROM measurements"

    @property
    def _config(self) -> Path:
        return self._folder / "config.yaml"

    @property
    def _artifact(self) -> Path:
        return self._folder / "wide.skops"

    def _fill(self) -> None:
        types = ", ".join(f"{name} DOUBLE PRECISION NOT NULL" for name in COLUMNS)
        self.way.execute(f"CREATE TABLE measurements (id BIGINT PRIMARY KEY, {types})")
        values = np.random.default_rng(1).uniform(-2, 2, (len(COLUMNS), self._rows))
        columns = {"id": np.arange(self._rows), **dict(zip(COLUMNS, values, strict=True))}
        with self.way.open() as database:
            table = TableName.parse("measurements")
            database.insert(table, pa.table(columns).to_reader(CHUNK_ROWS))
            database.commit()

    def _train(self) -> None:
        rng = np.random.default_rng(7)
        rows = pd.DataFrame(rng.uniform(-2, 2, (_TRAINING_ROWS, len(COLUMNS))), columns=list(COLUMNS))
        skops.io.dump(LogisticRegression().fit(rows, rows.sum(axis=1) > 0), self._artifact)

    def _configure(self) -> None:
        model = {
            "key": ["id"],
            "model": {"format": "skops", "uri": str(self._artifact)},
            "source": {"connection": "way", "query": self._query},
            "sink": {"connection": "way", "table": "predictions", "mode": "append", "create": True},
            "retries": 0,
        }
        staging = {"url": str(self._folder / "staging")}
        self._config.write_text(yaml.safe_dump({"staging": staging, "models": {"wide": model}}))

    def _url(self) -> str:
        if self.way.server is None:
            return f"sqlite:///{self.way.spec.host}"
        return self.way.server.airflow_uri(_SQLALCHEMY[self.way.server.engine])

    def _run(self, task: Mapping[str, Any]) -> float:
        paths = [str(REPOSITORY / "plugins"), str(REPOSITORY / "tests"), str(REPOSITORY)]
        if (package := peer_driver()[1]) is not None:  # only this one, not everything that is installed there
            peer = self._folder / "peer"
            peer.mkdir(exist_ok=True)
            with contextlib.suppress(FileExistsError):
                (peer / package.name).symlink_to(package)
            paths.append(str(peer))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.data_plane.step", "--task", json.dumps(task), "--warm"],
            env={
                **os.environ,
                "AIRFLOW_HOME": str(self._folder / "airflow"),
                "AIRFLOW_CONN_WAY": self.way.airflow_connection,
                "PYTHONPATH": os.pathsep.join(paths),
                "PYTHONDONTWRITEBYTECODE": "",  # compiling at every import would be timed
            },
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{self.way.name}: {task['what']} failed:\n{done.stderr[-3000:]}")
        return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


@contextlib.contextmanager
def open_places(ways: Sequence[str], rows: int) -> Iterator[list[Place]]:
    """Start the servers that these ways need, and fill a database for each."""
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {}
        if any(way in INTO_MARIADB for way in ways):
            servers["mysql"] = stack.enter_context(start_mariadb(*SERVER_OPTIONS))
        if any(way.endswith("postgres") for way in ways):
            servers["postgres"] = stack.enter_context(start_postgres("fsync=on"))
        places = []
        for name in ways:
            folder = home / name
            (folder / "airflow").mkdir(parents=True)
            if name == "sqlite":
                way = sqlite_way(folder)
            else:
                database = servers["mysql" if name in INTO_MARIADB else "postgres"].new_database()
                way = WayIn(name, spec_of(database, "odbc" if name.startswith("odbc") else None), database)
            places.append(Place(way, folder, rows))
        yield places


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS_IN, default=list(WAYS_IN))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS} rows once")
    options = parser.parse_args(arguments)
    rows, repeat = (QUICK_ROWS, 1) if options.quick else (options.rows, options.repeat)
    print(f"{rows} rows of an id and {len(COLUMNS)} doubles, medians of {repeat}, libraries loaded")
    print(f"{'way in':14} {'script s':>9} {'dispatch s':>11} {'times faster':>13}", flush=True)
    with open_places(options.ways, rows) as places:
        for place in places:
            place.dispatch()  # makes the sink
            place.make_script_table()
            dispatches, scripts = [], []
            for _ in range(repeat):
                place.empty()
                dispatches.append(place.dispatch())
                assert place.count() == rows
                place.empty()
                scripts.append(place.script())
                assert place.count(SCRIPT_TABLE) == rows
            script, dispatch = statistics.median(scripts), statistics.median(dispatches)
            print(f"{place.way.name:14} {script:9.2f} {dispatch:11.2f} {script / dispatch:13.1f}", flush=True)


if __name__ == "__main__":
    main()
