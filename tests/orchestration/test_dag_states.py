"""What Airflow's own tables say about the DAGs of models, in a SQLite of the test's own."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

pytestmark = pytest.mark.airflow

Ago = Callable[..., datetime]


@pytest.fixture
def ago() -> Ago:
    """Moments before the test began: the process may have loaded this file hours before."""
    now = datetime.now(UTC)
    return lambda **parts: now - timedelta(**parts)


@pytest.fixture(scope="module")
def dag_states() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Airflow's own imports
        from mlops_plugin.orchestration import dag_states
    return dag_states


@pytest.fixture
def session(dag_states: ModuleType) -> Iterator[Session]:
    engine = sa.create_engine("sqlite://")
    tables = [model.__table__ for model in (dag_states.DagModel, dag_states.DagRun, dag_states.Log)]
    dag_states.DagModel.metadata.create_all(engine, tables=tables)
    with Session(engine) as session:
        yield session
    engine.dispose()


def add_dag(session: Session, dag_id: str, due: datetime, *, is_paused: bool = False) -> None:
    known = {column["name"]: column for column in sa.inspect(session.connection()).get_columns("dag")}
    values: dict[str, Any] = {
        "dag_id": dag_id,
        "is_paused": is_paused,
        "is_stale": False,
        "next_dagrun_create_after": due.replace(tzinfo=None).isoformat(" "),
    }
    for name, column in known.items():
        if name not in values and not column["nullable"] and column["default"] is None:
            is_number = isinstance(column["type"], sa.Integer | sa.Boolean)
            values[name] = 0 if is_number else "null"  # valid as text and as JSON
    table = sa.table("dag", *map(sa.column, values))
    session.execute(sa.insert(table).values(values))


def add_log(session: Session, dag_id: str, event: str, at: datetime, **extra: Any) -> None:
    values = {"dag_id": dag_id, "event": event, "dttm": at.replace(tzinfo=None).isoformat(" ")}
    table = sa.table("log", *map(sa.column, (*values, "extra")))
    session.execute(sa.insert(table).values({**values, "extra": json.dumps(extra)}))


def test_a_dag_that_is_due_knows_when_it_was_resumed(
    dag_states: ModuleType, session: Session, ago: Ago
) -> None:
    for name in ("resumed", "by_terminal", "untouched", "renamed", "long_ago"):
        add_dag(session, name, ago(hours=9))
    add_dag(session, "not_due", ago(hours=-1))
    add_dag(session, "paused", ago(hours=9), is_paused=True)
    for name in ("resumed", "not_due", "paused"):
        add_log(session, name, "patch_dag", ago(minutes=30), is_paused=True)
        add_log(session, name, "patch_dag", ago(minutes=2), is_paused=False)
    add_log(session, "by_terminal", "cli_dag_unpause", ago(minutes=3))
    add_log(session, "renamed", "patch_dag", ago(minutes=4), description="new")
    add_log(session, "untouched", "success", ago(minutes=1))
    add_log(session, "long_ago", "patch_dag", ago(days=3), is_paused=False)
    names = ["resumed", "by_terminal", "untouched", "renamed", "long_ago", "not_due", "paused", "absent"]
    found = dag_states.AirflowState(session).dags(names)
    assert found.keys() == set(names) - {"absent"}
    assert {name: state.resumed_at for name, state in found.items() if state.resumed_at} == {
        "resumed": ago(minutes=2),
        "by_terminal": ago(minutes=3),
    }
