"""Each row is a situation, and the one word for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlops_plugin.events.records import DispatchRecord, State
from mlops_plugin.events.tries import Retry
from mlops_plugin.monitoring.model_state import last_dispatch, model_state, retry_words

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATE_AFTER = timedelta(minutes=5)


def ago(**parts: int) -> datetime:
    return NOW - timedelta(**parts)


@dataclass(frozen=True)
class Dag:
    """An hourly DAG whose last run succeeded and whose next is due in half an hour."""

    is_paused: bool = False
    is_stale: bool = False
    next_data_interval_start: datetime | None = NOW - timedelta(minutes=30)
    next_data_interval_end: datetime | None = NOW + timedelta(minutes=30)
    next_run_after: datetime | None = NOW + timedelta(minutes=30)
    last_run_id: str | None = "r"
    last_run_state: str | None = "success"
    last_run_after: datetime | None = NOW - timedelta(minutes=30)
    last_run_start: datetime | None = NOW - timedelta(minutes=30)
    last_run_end: datetime | None = NOW - timedelta(minutes=29)
    resumed_at: datetime | None = None


LAST = DispatchRecord(
    dispatch_id="d",
    model="churn",
    origin="scheduled",
    requested_by=None,
    dag_id="churn",
    run_id="r",
    data_interval_start=None,
    data_interval_end=None,
    dry_run=False,
    state="succeeded",
    created_at=ago(minutes=30),
    updated_at=ago(minutes=29),
)
BROKE = replace(LAST, state="failed", error="no such table")
UNDER_WAY = replace(LAST, state="running", run_id="another")
UNSCHEDULED = {"next_data_interval_start": None, "next_data_interval_end": None, "next_run_after": None}

ROLLED = {
    "next_data_interval_start": ago(hours=1),
    "next_data_interval_end": NOW,
    "next_run_after": NOW,
}


@pytest.mark.parametrize(
    ("dag", "last", "word", "why"),
    [
        ({}, LAST, "ok", "its last dispatch succeeded"),
        ({}, BROKE, "failed", "no such table"),
        ({"last_run_state": "failed"}, LAST, "failed", "its last run failed"),
        ({"last_run_state": "failed"}, None, "failed", "its last run failed"),
        ({"last_run_state": "failed"}, replace(LAST, updated_at=ago(minutes=1)), "ok", None),
        ({"last_run_state": None, "last_run_end": None}, None, "waiting", "not dispatched yet"),
        # Airflow remembers a run, the event store does not: nobody knows what it did
        ({}, None, "waiting", "its last run succeeded, but the event store has no dispatch of it"),
        ({"is_stale": True}, LAST, "not in Airflow", None),
        # paused: what was due is not late, and what failed is not news
        ({"is_paused": True}, BROKE, "paused", None),
        ({"is_paused": True, "next_run_after": ago(hours=9)}, LAST, "paused", None),
        ({"is_paused": True, "last_run_state": "running"}, LAST, "running", "running for 30 min"),
        # late, missed
        ({"next_run_after": ago(minutes=5)}, LAST, "ok", None),
        ({"next_run_after": ago(minutes=6)}, LAST, "late", "due 6 min ago, nothing has started"),
        ({"next_run_after": ago(minutes=59)}, BROKE, "late", None),
        ({"next_run_after": ago(minutes=60)}, LAST, "missed", "one dispatch missed: due 1 h ago, "),
        ({"next_run_after": ago(minutes=200)}, LAST, "missed", "3 dispatches missed: due 3 h 20 min ago, "),
        # what was due while it was paused is due since it was resumed
        ({"next_run_after": ago(hours=9), "resumed_at": ago(minutes=5)}, LAST, "ok", None),
        ({"next_run_after": ago(hours=9), "resumed_at": ago(minutes=6)}, LAST, "late", "resumed 6 min ago, "),
        (
            {"next_run_after": ago(hours=9), "resumed_at": ago(hours=2)},
            LAST,
            "missed",
            "2 dispatches missed: resumed 2 h ago, ",
        ),
        ({"next_run_after": ago(minutes=6), "resumed_at": ago(hours=3)}, LAST, "late", "due 6 min ago, "),
        ({"last_run_state": "queued", "resumed_at": ago(minutes=1)}, LAST, "waiting", "queued"),
        # Airflow has moved on to the newest time, which it does with each reading of the DAG's file
        ({**ROLLED, "last_run_after": ago(hours=1)}, LAST, "ok", None),
        ({**ROLLED, "last_run_after": ago(minutes=65)}, LAST, "ok", None),
        (
            {**ROLLED, "last_run_after": ago(hours=3)},
            BROKE,
            "missed",
            "the last run was due 3 h ago, nothing",
        ),
        ({**ROLLED, "last_run_after": ago(hours=3), "resumed_at": ago(minutes=1)}, LAST, "ok", None),
        (
            {
                **ROLLED,
                "last_run_after": ago(hours=9),
                "last_run_start": ago(hours=9),
                "resumed_at": ago(hours=2),
            },
            LAST,
            "missed",
            "resumed 2 h ago, nothing",
        ),
        (
            # resumed, it has run what was due, and nothing after it
            {
                **ROLLED,
                "last_run_after": ago(hours=4),
                "last_run_start": ago(hours=3),
                "resumed_at": ago(minutes=181),
            },
            LAST,
            "missed",
            "the last run started 3 h ago, nothing",
        ),
        ({**ROLLED, "last_run_after": ago(hours=3), "last_run_state": "queued"}, LAST, "late", None),
        ({**ROLLED, "last_run_after": ago(hours=3), "is_paused": True}, LAST, "paused", None),
        ({**ROLLED, "last_run_after": ago(hours=3), "next_run_after": ago(minutes=-1)}, LAST, "ok", None),
        ({**ROLLED, "last_run_after": None, "last_run_state": None}, None, "waiting", None),
        ({"last_run_state": "queued", "last_run_after": ago(minutes=1)}, LAST, "waiting", "queued"),
        ({"last_run_state": "queued"}, LAST, "late", "due 30 min ago, queued, but not started"),
        ({**UNSCHEDULED, "last_run_state": "queued"}, LAST, "late", None),
        # running, overrun
        (
            {"last_run_state": "running", "last_run_start": ago(minutes=2)},
            LAST,
            "running",
            "running for 2 min; it started 28 min late",
        ),
        (
            {"last_run_state": "running", "last_run_start": ago(minutes=61), "next_run_after": ago(hours=1)},
            LAST,
            "overrun",
            "running for 1 h 1 min, longer than its limit of 1 h",
        ),
        ({**UNSCHEDULED, "last_run_state": "running", "last_run_start": ago(days=1)}, LAST, "running", None),
        (UNSCHEDULED, LAST, "ok", None),
        # another than the last run: a backfill, the terminal's, or one that began before it and is slower
        ({}, UNDER_WAY, "running", "running for 30 min"),
        ({"is_paused": True}, UNDER_WAY, "running", None),
        ({"last_run_state": "failed"}, UNDER_WAY, "running", None),
        ({}, replace(UNDER_WAY, created_at=ago(minutes=61)), "overrun", "running for 1 h 1 min, longer"),
        ({"last_run_state": "running"}, UNDER_WAY, "running", "running for 30 min"),
    ],
)
def test_the_word_for_a_situation(
    dag: dict[str, Any], last: DispatchRecord | None, word: str, why: str | None
) -> None:
    state = model_state(Dag(**dag), last, NOW, late_after=LATE_AFTER)

    assert state.word == word
    assert state.why.startswith(why or "")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (2, "try 2 of 3 of collect, after: no route"),
        (3, "try 3 of 3 of collect, after: no route"),
        (4, "try 4 of collect, after: no route"),  # cleared: Airflow counts on
    ],
)
def test_a_retry_says_which_try_it_is_and_why(number: int, words: str) -> None:
    assert retry_words(Retry("collect", number, "no route"), retries=2) == words


def test_a_dispatch_that_exceeds_its_own_limit_is_an_overrun() -> None:
    dag = Dag(last_run_state="running", last_run_start=ago(minutes=20))
    limit = timedelta(minutes=10)

    assert model_state(dag, LAST, NOW, late_after=LATE_AFTER, limit=limit).word == "overrun"


def test_a_cleared_dispatch_runs_since_it_was_opened_again() -> None:
    """A cleared backfill keeps `created_at`, and is not the run that Airflow calls the last."""
    cleared = replace(UNDER_WAY, created_at=ago(hours=9))
    state = model_state(Dag(), cleared, NOW, late_after=LATE_AFTER, opened_at=ago(minutes=2))
    assert (state.word, state.why) == ("running", "running for 2 min")


def test_a_broken_configuration_comes_before_everything() -> None:
    said = "config.yaml:4: models.churn.key: missing; required"
    state = model_state(Dag(last_run_state="running"), LAST, NOW, late_after=LATE_AFTER, problem=said)

    assert (state.word, state.why) == ("broken configuration", said)


def test_a_model_that_airflow_does_not_know_is_not_in_airflow() -> None:
    assert model_state(None, None, NOW, late_after=LATE_AFTER).word == "not in Airflow"


@pytest.mark.parametrize(
    ("run", "dispatch", "state", "word"),
    [
        ("success", "running", "succeeded", "ok"),  # read before Airflow was, or ended by hand
        ("failed", "running", "failed", "failed"),
        ("running", "running", "running", "running"),
        (
            "success",
            "failed",
            "failed",
            "failed",
        ),  # ended by hand in Airflow
    ],
)
def test_the_state_and_the_last_dispatch_do_not_contradict_each_other(
    run: str, dispatch: State, state: str, word: str
) -> None:
    dag = Dag(last_run_state=run, last_run_id="r")
    last = last_dispatch(dag, replace(LAST, state=dispatch, error=None))

    assert last is not None
    assert last.state == state
    assert model_state(dag, last, NOW, late_after=LATE_AFTER).word == word
