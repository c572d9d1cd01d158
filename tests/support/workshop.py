"""A small deployment in a temporary folder: one trained model, a source, a sink, an event store.

Tests change what they are about and dispatch through whichever door they test.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
import yaml

from mlops_plugin.config.loader import LoadedConfig, load_config
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.events import tables
from mlops_plugin.events.records import DispatchRecord, EventRecord, Step
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import Dispatch, new_dispatch_id
from mlops_plugin.pipeline.runner import run_dispatch, run_step
from mlops_plugin.pipeline.staging.shelf import OnRows, unheard
from support.event_tables import make_tables
from support.servers import ServerDatabase

if TYPE_CHECKING:  # pytest's controller and the processes of tests fit no model: spare them the seconds
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

FEATURES = ("a", "b", "c")


class Workshop:
    """Everything lies under `folder`; connections are called source, sink and events."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "airflow"
        self.config_file = folder / "config.yaml"
        self.models: dict[str, dict[str, Any]] = {}
        self.sections: dict[str, Any] = {
            "events": {"connection": "events"},
            "staging": {"url": "staging"},
            "monitor": {"schedule": None},  # no DAG that runs on its own beside those that a test is about
        }
        # Airflow's own database; None is SQLite, where on a busy machine a writer waits in vain for another.
        self.metadata: ServerDatabase | None = None
        self.connections = {name: f"sqlite:///{folder / name}.db" for name in ("source", "sink", "events")}
        self.classifier = _churn(folder / "churn.skops")
        self.add_rows(5)
        self.add_model("churn")

    @classmethod
    def again(cls, folder: Path) -> Workshop:
        """The workshop that another process has made there, as it stands."""
        workshop = cls.__new__(cls)
        workshop.folder, workshop.home = folder, folder / "airflow"
        workshop.config_file = folder / "config.yaml"
        return workshop

    @staticmethod
    def frame(rows: list[list[float]]) -> pd.DataFrame:
        """Rows of features as the model was trained on them."""
        import pandas as pd

        return pd.DataFrame(rows, columns=list(FEATURES))

    def add_rows(self, count: int, table: str = "customers") -> None:
        """Put `count` more rows into the source; the ids go on."""
        import numpy as np

        with sqlite3.connect(self.folder / "source.db") as source:
            source.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, a REAL, b REAL, c REAL)"
            )
            (first,) = source.execute(f"SELECT coalesce(max(id), 0) + 1 FROM {table}").fetchone()
            values = np.random.default_rng(first).normal(size=(count, len(FEATURES)))
            source.executemany(
                f"INSERT INTO {table} VALUES (?, ?, ?, ?)",
                ((first + n, *map(float, row)) for n, row in enumerate(values)),
            )
        source.close()

    def add_model(self, name: str, **changes: Any) -> None:
        """Add or replace an entry under `models:`; `source` and `sink` are merged, the rest replaces."""
        entry: dict[str, Any] = {
            "key": ["id"],
            "model": {"format": "skops", "uri": "churn.skops"},
            "source": {"connection": "source", "query": "SELECT id, a, b, c FROM customers ORDER BY id"},
            "sink": {"connection": "sink", "table": f"{name}_predictions", "mode": "upsert", "create": True},
            "retries": 0,
        }
        for section in ("source", "sink"):
            entry[section] |= changes.pop(section, {})
        self.models[name] = entry | changes
        self.write()

    def write(self) -> None:
        """Write config.yaml as it is described now."""
        self.config_file.write_text(yaml.safe_dump({**self.sections, "models": self.models}, sort_keys=False))

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to be part of this deployment."""
        connections = {f"AIRFLOW_CONN_{name.upper()}": uri for name, uri in self.connections.items()}
        metadata = self.metadata and {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.metadata.sqlalchemy_url()}
        return {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__MLOPS__CONFIG_FILE": str(self.config_file),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            **(metadata or {}),
            **connections,
        }

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This process belongs to the deployment inside."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            yield

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """The same, and the event store has its tables."""
        with self.entered():
            with self.deployment.event_store() as store:
                make_tables(store.address)
            yield

    @property
    def loaded(self) -> LoadedConfig:
        return load_config(self.config_file)

    @property
    def deployment(self) -> Deployment:
        config = self.loaded.config
        requires = config.serving.require_confinement
        return Deployment(config.events, config.staging, self.home, requires_confinement=requires)

    def model(self, name: str = "churn") -> ModelConfig:
        return self.loaded.config.models[name]

    def dispatch(self, name: str = "churn", **changes: Any) -> Dispatch:
        """A dispatch that nobody has begun."""
        now = datetime.now(UTC)
        asked: Mapping[str, Any] = {"origin": "terminal", "data_interval": (now, now), **changes}
        return Dispatch(id=new_dispatch_id(), model=self.model(name), **asked)

    def run(self, dispatch: Dispatch) -> None:
        """All four steps in this process; the query as it stands in the configuration."""
        run_dispatch(dispatch, self.deployment, lambda: dispatch.model.source.query, _unwatched)

    def run_steps(self, dispatch: Dispatch, *steps: Step) -> None:
        """Some steps, in this order."""
        for step in steps:
            run_step(step, dispatch, self.deployment, query=lambda: dispatch.model.source.query)

    def predictions(self, table: str = "churn_predictions") -> list[dict[str, Any]]:
        """The rows in the sink, by id."""
        with sqlite3.connect(self.folder / "sink.db") as sink:
            sink.row_factory = sqlite3.Row
            rows = [dict(row) for row in sink.execute(f"SELECT * FROM {table} ORDER BY id")]
        sink.close()
        return rows

    def in_source(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in the source, together; returns what the last has found."""
        return _in_sqlite(self.folder / "source.db", statements)

    def in_sink(self, *statements: str) -> list[tuple[Any, ...]]:
        """The same in the sink."""
        return _in_sqlite(self.folder / "sink.db", statements)

    def record(self, dispatch_id: str) -> DispatchRecord:
        with self.deployment.event_store() as store:
            record = store.get(dispatch_id)
        assert record is not None
        return record

    def records(self, name: str = "churn") -> list[DispatchRecord]:
        """The model's dispatches, newest first."""
        with self.deployment.event_store() as store:
            return store.dispatches(model=name)

    def age(self, dispatch_id: str, by: timedelta) -> None:
        """Let the last that was heard of a dispatch be so long ago."""
        values = {"updated_at": datetime.now(UTC) - by}
        this = sa.update(tables.dispatches).where(tables.dispatches.c.dispatch_id == dispatch_id)
        with self.deployment.event_store() as store:
            store.write("ageing a dispatch", lambda connection: connection.execute(this.values(values)))

    def events(self, dispatch_id: str) -> list[EventRecord]:
        with self.deployment.event_store() as store:
            return store.events(dispatch_id)


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """A deployment whose connections this process can use."""
    workshop = Workshop(tmp_path)
    with workshop.ready():
        yield workshop


@contextlib.contextmanager
def _unwatched(step: Step) -> Iterator[OnRows]:
    yield unheard


def _in_sqlite(path: Path, statements: Sequence[str]) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        found = [database.execute(statement).fetchall() for statement in statements]
    return found[-1]


def _churn(path: Path) -> LogisticRegression:
    """Write the model; it is trained once in each test process."""
    model, file = _trained()
    path.write_bytes(file)
    return copy.deepcopy(model)


@functools.cache
def _trained() -> tuple[LogisticRegression, bytes]:
    import numpy as np
    import pandas as pd
    import skops.io
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(7)
    rows = pd.DataFrame(rng.normal(size=(60, len(FEATURES))), columns=list(FEATURES))
    model = LogisticRegression().fit(rows, np.where(rows["a"] + rows["b"] > 0, "stays", "leaves"))
    return model, skops.io.dumps(model)
