"""In any order of reading, persisting, retrying and clearing, the sink ends with what was read last.

hypothesis looks for an order that says otherwise; each step is a real one.
"""

from __future__ import annotations

import contextlib
import sqlite3

import numpy as np
import pytest
import skops.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from mlops_plugin.errors import MlopsError
from mlops_plugin.pipeline.dispatch import Dispatch
from support.random_examples import examples
from support.workshop import FEATURES, Workshop

KEYS = range(1, 4)
DISPATCHES = range(3)


@pytest.fixture
def echo(workshop: Workshop) -> Workshop:
    frame = workshop.frame(np.random.default_rng(3).normal(size=(30, len(FEATURES))).tolist())
    skops.io.dump(LinearRegression().fit(frame, frame["a"]), workshop.folder / "echo.skops")
    workshop.in_source(f"DELETE FROM customers WHERE id > {len(KEYS)}")
    return workshop


# What happens, in any order. Reading and persisting twice is a retry, or a task that somebody cleared.
HAPPENS = [
    *(("read", which) for which in DISPATCHES),
    *(("persist", which) for which in DISPATCHES),
    *(("persist", which) for which in DISPATCHES),
    *(("change", key) for key in KEYS),
    ("read", 0),
    ("fail", 0),
]


class Story:
    """What happened so far, and what the sink must hold because of it."""

    def __init__(self, echo: Workshop, mode: str) -> None:
        model = {"format": "skops", "uri": "echo.skops"}
        echo.add_model("echo", model=model, sink={"mode": mode})
        in_database(
            echo,
            "sink",
            "DROP VIEW IF EXISTS echo_predictions",
            "DROP TABLE IF EXISTS echo_predictions_rows",
            "DROP TABLE IF EXISTS mlops_dispatches",
        )
        self.echo = echo
        self.version = 0
        self.values = dict.fromkeys(KEYS, 0)
        echo.in_source("UPDATE customers SET a = 0")
        self.dispatches = [echo.dispatch("echo") for _ in DISPATCHES]
        self.reads = 0
        self.read_last: dict[int, tuple[int, dict[int, int]]] = {}  # by dispatch, and not yet persisted
        self.persisted: list[tuple[int, dict[int, int]]] = []

    def change(self, key: int) -> None:
        self.version += 1
        self.values[key] = self.version
        self.echo.in_source(f"UPDATE customers SET a = {self.version} WHERE id = {key}")

    def read(self, which: int) -> None:
        self.echo.run_steps(self.dispatches[which], "collect", "log", "infer")
        self.reads += 1
        self.read_last[which] = self.reads, dict(self.values)

    def persist(self, which: int) -> None:
        dispatch: Dispatch = self.dispatches[which]
        read = self.read_last.pop(which, None)
        if read is None:  # cleared without need, or before it has read anything
            with contextlib.suppress(MlopsError):
                self.echo.run_steps(dispatch, "persist")
            return
        self.echo.run_steps(dispatch, "persist")
        self.persisted.append(read)
        record = self.echo.record(dispatch.id)
        assert (record.rows_persisted or 0) + (record.rows_superseded or 0) == len(KEYS)

    def fail(self, which: int) -> None:
        """A try of `persist` that ends in the middle; Airflow tries again some time."""
        if which in self.read_last and self.persisted:
            table = "ALTER TABLE echo_predictions_rows RENAME COLUMN"
            in_database(self.echo, "sink", f"{table} prediction TO away")
            with pytest.raises(MlopsError):
                self.echo.run_steps(self.dispatches[which], "persist")
            in_database(self.echo, "sink", f"{table} away TO prediction")

    @property
    def expected(self) -> dict[int, int]:
        return max(self.persisted)[1] if self.persisted else {}

    @property
    def found(self) -> dict[int, int]:
        rows = self.echo.predictions("echo_predictions") if self.persisted else []
        return {row["id"]: round(row["prediction"]) for row in rows}


def in_database(echo: Workshop, name: str, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(echo.folder / f"{name}.db")) as database, database:
        for statement in statements:
            database.execute(statement)


@pytest.mark.parametrize("mode", ["upsert", "replace"])
@settings(
    deadline=None, max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(acts=st.permutations(HAPPENS))
def test_sink_ends_with_what_was_read_last(echo: Workshop, mode: str, acts: list[tuple[str, int]]) -> None:
    story = Story(echo, mode)
    for act, number in acts:
        getattr(story, act)(number)
        assert story.found == story.expected, act
