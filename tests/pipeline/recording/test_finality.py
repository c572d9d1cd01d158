"""A failure that waiting cannot mend closes its dispatch at once; any other leaves it to the next try."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from mlops_plugin.errors import MlopsError
from mlops_plugin.events.records import Step
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.runner import run_step
from support.workshop import Workshop

STEPS: tuple[Step, ...] = ("collect", "log", "infer", "persist")
CONTRACT = {"columns": {"a": {"max": 100, "on_violation": "fail"}}}


def outlier(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = 1e9 WHERE id = 2")


def nothing(_workshop: Workshop) -> None:
    """Leave all as it is."""


def without_artifact(workshop: Workshop) -> None:
    (workshop.folder / "churn.skops").unlink()


def taken_table(workshop: Workshop) -> None:
    with contextlib.closing(sqlite3.connect(workshop.folder / "sink.db")) as sink, sink:
        sink.execute("CREATE TABLE churn_predictions (something INTEGER)")


def first_failure(
    workshop: Workshop, change: dict[str, Any], arrange: Callable[[Workshop], None]
) -> tuple[str, Step, MlopsError]:
    """A dispatch of the changed model, and the first try of a step that fails; Airflow would make more."""
    arrange(workshop)
    workshop.add_model("churn", **change)
    dispatch = workshop.dispatch()
    for step in STEPS:
        try:
            run_step(
                step,
                dispatch,
                workshop.deployment,
                query=lambda: dispatch.model.source.query,
                attempt=Attempt(1, is_final=False),
            )
        except MlopsError as error:
            return dispatch.id, step, error
    raise AssertionError("nothing failed")


@pytest.mark.parametrize(
    ("step", "change", "arrange"),
    [
        ("collect", {"source": {"query": "SELECT a, b, c FROM customers"}}, nothing),
        ("collect", {"input": {"columns": {"nobody": {"max": 1}}}}, nothing),
        ("infer", {"source": {"query": "SELECT id, a, b FROM customers"}}, nothing),
        ("infer", {"input": CONTRACT}, outlier),
        ("infer", {"model": {"format": "skops", "uri": "churn.skops", "sha256": "0" * 64}}, nothing),
        ("persist", {"input": {"columns": {"a": {"max": 100}}}}, outlier),
        ("persist", {"source": {"query": "SELECT 1 AS id, a, b, c FROM customers"}}, nothing),
    ],
    ids=["no key", "no column", "no feature", "contract", "pinned artifact", "threshold", "key twice"],
)
def test_what_waiting_cannot_mend_closes_the_dispatch_with_the_first_try(
    workshop: Workshop, step: str, change: dict[str, Any], arrange: Callable[[Workshop], None]
) -> None:
    dispatch_id, failed, error = first_failure(workshop, change, arrange)

    assert failed == step, error
    assert workshop.record(dispatch_id).state == "failed"
    assert workshop.record(dispatch_id).error == str(error).splitlines()[0]


@pytest.mark.parametrize(
    ("step", "change", "arrange"),
    [
        ("collect", {"source": {"query": "SELECT * FROM not_there_yet"}}, nothing),
        ("collect", {"source": {"query": "SELECT NULL AS id, a, b, c FROM customers"}}, nothing),
        ("collect", {"source": {"connection": "not_there_yet"}}, nothing),
        ("log", {}, without_artifact),
        ("persist", {}, taken_table),
    ],
    ids=["no table", "key NULL", "no connection", "no artifact", "another table"],
)
def test_what_may_have_changed_by_the_next_try_leaves_the_dispatch_open(
    workshop: Workshop, step: str, change: dict[str, Any], arrange: Callable[[Workshop], None]
) -> None:
    dispatch_id, failed, error = first_failure(workshop, change, arrange)

    assert failed == step, error
    assert workshop.record(dispatch_id).state == "running"
