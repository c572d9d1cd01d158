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

from mlops_plugin.events.records import DispatchRecord
from mlops_plugin.monitoring.model_state import last_dispatch, model_state

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
    values = {
        "dag_id": dag_id,
        "is_paused": is_paused,
        "is_stale": False,
        "next_dagrun_create_after": _written(due),
    }
    _insert(session, "dag", values)


def add_run(session: Session, state: str, began: datetime, conf: Any = None, **more: str) -> None:
    """A run of the DAG `churn` that was due when it began, and took a minute if it has ended."""
    ended = _written(began + timedelta(minutes=1)) if state in ("success", "failed") else None
    values = {
        "dag_id": "churn",
        "run_id": _written(began),
        "run_type": "manual",
        "state": state,
        "conf": json.dumps(conf),
        "run_after": _written(began),
        "start_date": _written(began),
        "end_date": ended,
    }
    _insert(session, "dag_run", values | more)


def _written(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat(" ")


def _insert(session: Session, table_name: str, given: dict[str, Any]) -> None:
    """A row with the values and, where it must have others, with values that mean nothing."""
    values = dict(given)
    known = {column["name"]: column for column in sa.inspect(session.connection()).get_columns(table_name)}
    is_numbered = {"id"} if table_name == "dag_run" else set()
    for name, column in known.items():
        if name not in {*values, *is_numbered} and not column["nullable"] and column["default"] is None:
            is_number = isinstance(column["type"], sa.Integer | sa.Boolean)
            values[name] = 0 if is_number else "null"  # valid as text and as JSON
    table = sa.table(table_name, *map(sa.column, values))
    session.execute(sa.insert(table).values(values))


def add_log(session: Session, dag_id: str, event: str, at: datetime, **extra: Any) -> None:
    values = {"dag_id": dag_id, "event": event, "dttm": _written(at)}
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


DRY = {"row_limit": None, "dry_run": True, "quarantined": False}
WRITES = {**DRY, "dry_run": False}


def recorded(ago: Ago, state: Any, error: str | None = None) -> DispatchRecord:
    """The dispatch of the run of an hour ago, as the event store knows it."""
    began = ago(hours=1)
    return DispatchRecord(
        dispatch_id="d",
        model="churn",
        origin="manual",
        requested_by=None,
        dag_id="churn",
        run_id=_written(began),
        data_interval_start=None,
        data_interval_end=None,
        dry_run=False,
        state=state,
        created_at=began,
        updated_at=began + timedelta(seconds=50),
        error=error,
    )


def state_of(dag_states: ModuleType, session: Session, last: DispatchRecord | None, now: datetime) -> Any:
    """What the page, the cards and `mlops models` say."""
    dag = dag_states.AirflowState(session).dags(["churn"])["churn"]
    state = model_state(dag, last_dispatch(dag, last), now, late_after=timedelta(minutes=5))
    return state.word, str(state.why)


@pytest.mark.parametrize("ended", ["failed", "success", "running", "queued"])
@pytest.mark.parametrize("conf", [None, {}, WRITES])
def test_a_dry_run_hides_neither_a_success_nor_a_failure(
    dag_states: ModuleType, session: Session, ago: Ago, ended: str, conf: Any
) -> None:
    """Several, one after the other, whatever became of them."""
    add_dag(session, "churn", ago(hours=-1))
    add_run(session, "success", ago(hours=1), conf)
    add_run(session, "failed", ago(minutes=40), DRY)
    add_run(session, ended, ago(minutes=30), {"dry_run": True})
    succeeded, failed = recorded(ago, "succeeded"), recorded(ago, "failed", "no such table")
    assert state_of(dag_states, session, succeeded, ago()) == ("ok", "its last dispatch succeeded")

    session.execute(
        sa.text("UPDATE dag_run SET state = 'failed' WHERE run_id = :first"), {"first": failed.run_id}
    )
    assert state_of(dag_states, session, failed, ago()) == ("failed", "no such table")


@pytest.mark.parametrize("ended", ["failed", "success", "running"])
def test_a_model_that_had_only_dry_runs_was_not_dispatched(
    dag_states: ModuleType, session: Session, ago: Ago, ended: str
) -> None:
    add_dag(session, "churn", ago(hours=-1))
    add_run(session, ended, ago(minutes=30), DRY)
    assert state_of(dag_states, session, None, ago()) == ("waiting", "not dispatched yet")


def test_a_run_that_failed_before_it_recorded_anything_shows_behind_a_dry_run(
    dag_states: ModuleType, session: Session, ago: Ago
) -> None:
    add_dag(session, "churn", ago(hours=-1))
    add_run(session, "success", ago(hours=1))
    add_run(session, "failed", ago(minutes=30), WRITES)
    failed = ("failed", "its last run failed")
    assert state_of(dag_states, session, recorded(ago, "succeeded"), ago()) == failed

    add_run(session, "success", ago(minutes=20), DRY)
    add_run(session, "success", ago(minutes=10), run_type="backfill")
    assert state_of(dag_states, session, recorded(ago, "succeeded"), ago()) == failed
