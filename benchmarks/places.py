"""One way into a database with rows to predict, trained models and a deployment over it, for `ways_in`.

The dispatch and the script read table `measurements` and write beside it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import skops.io
import yaml

from benchmarks.data_plane.peer import DUCKDB
from benchmarks.data_plane.worker import Worker
from benchmarks.warehouse import MODELS, REPOSITORY, SERVER_OPTIONS, TRUSTED, Spent, peer_driver, run_apart
from mlops_plugin.config.schema import EventsConfig, SinkConfig
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.sink.predictions_table import create_statement
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.migrating import upgrade
from support.servers import Server, start_mariadb, start_postgres
from support.ways_in import WayIn, spec_of, sqlite_way

COLUMNS = tuple(f"x{number}" for number in range(20))
STEPS = ("collect", "log", "infer", "persist")
ENGINES = {
    "mysql": "mysql",
    "odbc-mariadb": "mysql",
    "postgres": "postgres",
    "odbc-postgres": "postgres",
    "sqlite": "sqlite",
    "duckdb": "duckdb",
}
TABLE, UPSERTED = "predictions", "latest"
SCRIPT_TABLE = "predictions_of_the_script"
CHUNK_ROWS = 50_000
_TRAINING_ROWS = 5_000
_SQLALCHEMY = {"mysql": f"mysql+{peer_driver()[0]}", "postgres": "postgresql+psycopg2"}


class Place:
    """One way in, with that many rows; the steps of a dispatch run in processes forked from `worker`."""

    def __init__(self, way: WayIn, server: Server | None, folder: Path, rows: int) -> None:
        self.way = way
        self.rows = rows
        self._server = server
        self._folder = folder
        self._worker: Worker | None = None
        self._fill()
        self._train()
        upgrade(StoreAddress.of(EventsConfig(), None, folder / "airflow"))

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """With a process that has the libraries loaded, the sink, and the script's table."""
        with Worker(self._environment) as self._worker:
            self.configure("LogisticRegression")
            self.dispatch("LogisticRegression", is_first=True)
            self._make_script_table()
            self._keep_rows()
            yield

    def configure(self, model: str, *, mode: str = "append", table: str = TABLE) -> None:
        """Write config.yaml with this model."""
        entry = {
            "key": ["id"],
            "model": {"format": "skops", "uri": str(self._artifact(model)), "trusted": TRUSTED},
            "source": {"connection": "way", "query": self._query},
            "sink": {"connection": "way", "table": table, "mode": mode, "create": True},
            "retries": 0,
        }
        staging = {"url": str(self._folder / "staging")}
        self._config.write_text(yaml.safe_dump({"staging": staging, "models": {model: entry}}))

    def dispatch(self, model: str, *, is_cold: bool = False, is_first: bool = False) -> list[Spent]:
        """The four steps, one after the other, into an empty table."""
        if not is_first:
            self.empty()
        return self._counted(TABLE, model, STEPS, is_cold=is_cold)

    def dispatch_together(self, model: str) -> Spent:
        """The steps at the same time, in one process, into an empty table."""
        self.empty()
        (spent,) = self._counted(TABLE, model, ("together",))
        return spent

    def upsert(self, model: str) -> list[Spent]:
        """The four steps in mode upsert, into what the last one has left."""
        return self._counted(UPSERTED, model, STEPS)

    def forget_upserted(self) -> None:
        """The next dispatch in mode upsert makes its table."""
        self.way.execute(f"DROP VIEW IF EXISTS {UPSERTED}", f"DROP TABLE IF EXISTS {UPSERTED}_rows")

    def read_alone(self) -> Spent:
        """The rows of the query by the driver, and nothing else."""
        return self._alone({"floor": "read", "query": self._query})

    def write_alone(self) -> Spent:
        """The rows that the sink keeps by the driver, and nothing else, into the sink's empty table."""
        self.empty()
        return self._alone({"floor": "write", "table": self._rows_table(TABLE), "replaced": []})

    def upsert_alone(self) -> list[Spent]:
        """The same rows, which replace those of their key: none is there, then all are."""
        table = self._rows_table(UPSERTED)
        self.way.execute(f"TRUNCATE TABLE {table}")
        with pa.OSFile(str(self._rows_file)) as source:
            replaced = [name for name in pa.ipc.open_stream(source).schema.names if name != "id"]
        task = {"floor": "write", "table": table, "replaced": replaced}
        return [self._alone({**task, "dispatch": number}) for number in (1, 2)]

    def script(self, model: str) -> Spent:
        """Pandas in chunks, into a table with the columns that the sink shows."""
        self.empty()
        task = {
            "what": "ordinary",
            "url": self._url(),
            "artifact": str(self._artifact(model)),
            "trusted": TRUSTED,
            "query": self._query,
            "table": SCRIPT_TABLE,
            "chunk_rows": CHUNK_ROWS,
        }
        spent = self._spent(task, is_cold=True)
        self._require_rows(SCRIPT_TABLE)
        return spent

    def empty(self) -> None:
        """Remove the predictions."""
        verb = "TRUNCATE TABLE" if self._server else "DELETE FROM"
        self.way.execute(f"{verb} {self._rows_table(TABLE)}", f"{verb} {SCRIPT_TABLE}")

    def _rows_table(self, sink: str) -> str:
        """What holds the rows of a sink, which is a view unless the engine keeps no narrow rows."""
        return sink if self.way.name == "duckdb" else f"{sink}_rows"

    def _alone(self, task: Mapping[str, Any]) -> Spent:
        floor = {"what": "floor", "spec": asdict(self.way.spec), "rows_file": str(self._rows_file)}
        return self._spent({**floor, **task}, is_cold=False)

    def _counted(
        self, table: str, model: str, steps: tuple[str, ...], *, is_cold: bool = False
    ) -> list[Spent]:
        task = {"what": "step", "config": str(self._config), "model": model, "dispatch": str(uuid.uuid4())}
        spent = [self._spent({**task, "step": step}, is_cold=is_cold) for step in steps]
        self._require_rows(table)
        return spent

    def _require_rows(self, table: str) -> None:
        ((count,),) = self.way.rows(f"SELECT COUNT(*) FROM {table}")
        if int(count) != self.rows:
            raise SystemExit(f"{self.way.name}: {count} rows in {table} instead of {self.rows}")

    def _spent(self, task: Mapping[str, Any], *, is_cold: bool) -> Spent:
        assert self._worker is not None
        before = self._server_cpu_s()
        spent = run_apart(task, self._environment) if is_cold else self._worker.run(task)
        return replace(spent, cpu_s=spent.cpu_s + self._server_cpu_s() - before)

    def _server_cpu_s(self) -> float:
        """Of the server, and of its processes that have ended."""
        if self._server is None:
            return 0.0
        fields = Path(f"/proc/{self._server.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    @property
    def _environment(self) -> dict[str, str]:
        paths = [str(REPOSITORY / "plugins"), str(REPOSITORY / "tests"), str(REPOSITORY)]
        if (package := peer_driver()[1]) is not None:  # only this one, not everything that is installed there
            peer = self._folder / "peer"
            peer.mkdir(exist_ok=True)
            with contextlib.suppress(FileExistsError):
                (peer / package.name).symlink_to(package)
            paths.append(str(peer))
        return {
            **os.environ,
            "AIRFLOW_HOME": str(self._folder / "airflow"),
            "AIRFLOW_CONN_WAY": self.way.airflow_connection,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "",  # compiling at every import would be timed
        }

    @property
    def _query(self) -> str:
        return f"SELECT id, {', '.join(COLUMNS)} FROM measurements"

    @property
    def _config(self) -> Path:
        return self._folder / "config.yaml"

    def _artifact(self, model: str) -> Path:
        return self._folder / f"{model}.skops"

    def _url(self) -> str:
        if self.way.server is not None:
            return self.way.server.airflow_uri(_SQLALCHEMY[self.way.server.engine])
        return f"{DUCKDB if self.way.name == 'duckdb' else 'sqlite:///'}{self.way.spec.host}"

    @property
    def _rows_file(self) -> Path:
        return self._folder / "rows.arrow"

    def _keep_rows(self) -> None:
        """Keep the rows of the first dispatch, to write them alone."""
        query = f"SELECT * FROM {self._rows_table(TABLE)} ORDER BY id"
        with self.way.open() as database, pa.OSFile(str(self._rows_file), "wb") as sink:
            rows = database.read(query, batch_rows=CHUNK_ROWS)
            with pa.ipc.new_stream(sink, rows.schema) as writer:
                for batch in rows:
                    writer.write_batch(batch)

    def _make_script_table(self) -> None:
        sink = SinkConfig(connection="way", table=SCRIPT_TABLE, mode="append")
        with self.way.open() as database:
            shown = database.read(f"SELECT * FROM {TABLE} WHERE 1 = 0", batch_rows=1).schema
            database.execute(create_statement(database.engine, sink, key=["id"], schema=shown))
            database.commit()

    def _fill(self) -> None:
        types = ", ".join(f"{name} DOUBLE PRECISION NOT NULL" for name in COLUMNS)
        self.way.execute(f"CREATE TABLE measurements (id BIGINT PRIMARY KEY, {types})")
        values = np.random.default_rng(1).uniform(-2, 2, (len(COLUMNS), self.rows))
        columns = {"id": np.arange(self.rows), **dict(zip(COLUMNS, values, strict=True))}
        with self.way.open() as database:
            database.insert(TableName.parse("measurements"), pa.table(columns).to_reader(CHUNK_ROWS))
            database.commit()

    def _train(self) -> None:
        rng = np.random.default_rng(7)
        rows = pd.DataFrame(rng.uniform(-2, 2, (_TRAINING_ROWS, len(COLUMNS))), columns=list(COLUMNS))
        answers = (rows.sum(axis=1) + rng.normal(size=len(rows)) > 0).astype(int)
        for name, kind in MODELS.items():
            skops.io.dump(kind().fit(rows, answers), self._artifact(name))


@contextlib.contextmanager
def open_place(name: str, rows: int) -> Iterator[Place]:
    """Start the server that this way needs, and fill a database."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "airflow").mkdir()
        server = None
        if ENGINES[name] == "mysql":
            server = stack.enter_context(start_mariadb(*SERVER_OPTIONS, is_durable=True))
        elif ENGINES[name] == "postgres":
            server = stack.enter_context(start_postgres(is_durable=True))
        place = Place(_way(name, server, folder), server, folder, rows)
        stack.enter_context(place.opened())
        yield place


def _way(name: str, server: Server | None, folder: Path) -> WayIn:
    if server is not None:
        return WayIn(name, spec_of(database := server.new_database(), _type_of(name)), database)
    if name == "sqlite":
        return sqlite_way(folder)
    return WayIn(name, ConnectionSpec("way", "duckdb", host=str(folder / "a file.duckdb")), None)


def _type_of(name: str) -> str | None:
    return "odbc" if name.startswith("odbc") else None
