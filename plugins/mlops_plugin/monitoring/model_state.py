"""The state of a model, derived from what Airflow and the event store know; this module reads neither."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, Protocol

from mlops_plugin.events.records import DispatchRecord, State
from mlops_plugin.events.tries import Retry
from mlops_plugin.formatting import format_period

ModelWord = Literal[
    "broken configuration",
    "not in Airflow",
    "overrun",
    "running",
    "missed",
    "late",
    "paused",
    "failed",
    "ok",
    "waiting",
    "unknown",
]
QUEUED = "queued"


class DagSeen(Protocol):
    """What Airflow knows about the DAG of a model; times are aware UTC."""

    @property
    def is_paused(self) -> bool: ...
    @property
    def is_stale(self) -> bool: ...
    @property
    def next_data_interval_start(self) -> datetime | None: ...
    @property
    def next_data_interval_end(self) -> datetime | None: ...
    @property
    def next_run_after(self) -> datetime | None: ...
    @property
    def last_run_id(self) -> str | None: ...
    @property
    def last_run_state(self) -> str | None: ...
    @property
    def last_run_after(self) -> datetime | None: ...
    @property
    def last_run_start(self) -> datetime | None: ...
    @property
    def last_run_end(self) -> datetime | None: ...
    @property
    def resumed_at(self) -> datetime | None: ...


@dataclass(frozen=True)
class ModelState:
    """One word, and a sentence that gives the reason."""

    word: ModelWord
    why: str


def model_state(
    dag: DagSeen | None,
    last: DispatchRecord | None,
    now: datetime,
    *,
    late_after: timedelta,
    limit: timedelta | None = None,
    problem: str | None = None,
) -> ModelState:
    """The state of a model; the most urgent comes first.

    Late: it was due, `late_after` has passed, and nothing has started. Missed: the next one is due as well,
    or dispatches were due since the last run that Airflow no longer plans. What was due while it was paused
    counts from the moment when it was resumed. Overrun: it runs longer than the period of its schedule, or
    than `limit`.
    `problem` is what is wrong with its configuration, `last` the result of `last_dispatch`.
    """
    if problem is not None:
        return ModelState("broken configuration", problem)
    if dag is None or dag.is_stale:
        return ModelState(
            "not in Airflow", "Airflow has not read its DAG yet, or cannot read it: see Import Errors"
        )
    period = _period(dag)
    allowed = min((bound for bound in (period, limit) if bound), default=None)
    if dag.last_run_state == "running":
        return _running(
            dag.last_run_start or dag.last_run_after or now, dag.last_run_after, now, allowed, late_after
        )
    if last is not None and last.state == "running":
        # Not the last run: a backfill, the terminal's, or one that began before the last and is slower.
        return _running(last.created_at, None, now, allowed, late_after)
    if not dag.is_paused and (overdue := _overdue(dag, now, period, late_after)):
        return overdue
    if dag.is_paused:
        return ModelState("paused", "paused: no dispatch starts until you resume it")
    return _idle_state(dag, last)


def last_dispatch(dag: DagSeen | None, last: DispatchRecord | None) -> DispatchRecord | None:
    """The last dispatch, closed if Airflow says that its run has ended.

    The event store may have been read a moment before Airflow, and a run that was ended by hand leaves its
    dispatch open for a while.
    """
    if dag is None or last is None or last.state != "running" or last.run_id != dag.last_run_id:
        return last
    if dag.last_run_state not in ("success", "failed"):
        return last
    state: State = "succeeded" if dag.last_run_state == "success" else "failed"
    return replace(last, state=state, finished_at=dag.last_run_end)


def retry_words(retry: Retry, retries: int) -> str:
    """`try 2 of 3 of collect, after: no route to host`; a run that was cleared may have more tries."""
    of_how_many = f" of {retries + 1}" if retry.number <= retries + 1 else ""
    return f"try {retry.number}{of_how_many} of {retry.step}, after: {retry.error}"


def _period(dag: DagSeen) -> timedelta | None:
    """The time from one dispatch to the next; None without a schedule of its own."""
    if dag.next_data_interval_start is None or dag.next_data_interval_end is None:
        return None
    return (dag.next_data_interval_end - dag.next_data_interval_start) or None


def _running(
    started: datetime, due: datetime | None, now: datetime, allowed: timedelta | None, late_after: timedelta
) -> ModelState:
    took = now - started
    if allowed is not None and took > allowed:
        return ModelState(
            "overrun", f"running for {format_period(took)}, longer than its limit of {format_period(allowed)}"
        )
    late = started - due if due else timedelta(0)
    began_late = f"; it started {format_period(late)} late" if late > late_after else ""
    return ModelState("running", f"running for {format_period(took)}{began_late}")


def _overdue(
    dag: DagSeen, now: datetime, period: timedelta | None, late_after: timedelta
) -> ModelState | None:
    is_queued = dag.last_run_state == "queued"
    due = dag.last_run_after if is_queued else dag.next_run_after
    if due is None or now < due:
        return None
    since, began = due, "due"
    if dag.resumed_at is not None and dag.resumed_at > due:
        since, began = dag.resumed_at, "resumed"
    if not is_queued and (missed := _missed_before(dag, now, period, late_after)):
        return missed
    waited = now - since
    if waited <= late_after:
        return None
    waits = "queued, but not started" if is_queued else "nothing has started"
    if period is not None and waited >= period and not is_queued:
        count = waited // period
        times = "one dispatch" if count == 1 else f"{count} dispatches"
        return ModelState("missed", f"{times} missed: {began} {format_period(waited)} ago, {waits}")
    return ModelState("late", f"{began} {format_period(waited)} ago, {waits}")


def _missed_before(
    dag: DagSeen, now: datetime, period: timedelta | None, late_after: timedelta
) -> ModelState | None:
    """Missed times before the one that Airflow plans next.

    Without catchup, Airflow moves that one to the newest whenever it parses the DAG file. Its interval starts
    one period before it is due: if the last run was due before that, the time in between had no run.
    """
    last, start = dag.last_run_after, dag.next_data_interval_start
    if period is None or last is None or start is None:
        return None
    since, began = last, "the last run was due"
    if dag.resumed_at is not None and dag.resumed_at > last:
        since, began = dag.resumed_at, "resumed"
    if since >= start or now - since <= period + late_after:
        return None
    return ModelState("missed", f"{began} {format_period(now - since)} ago, nothing has started since")


def _idle_state(dag: DagSeen, last: DispatchRecord | None) -> ModelState:
    if dag.last_run_state == "queued":
        return ModelState("waiting", QUEUED)
    # A run may fail before its first step could record anything, and a terminal's dispatch has no run.
    is_run_newer = dag.last_run_end is not None and (last is None or dag.last_run_end >= last.updated_at)
    if dag.last_run_state == "failed" and is_run_newer:
        return ModelState("failed", (last and last.state == "failed" and last.error) or "its last run failed")
    if last is not None and last.state == "failed":
        return ModelState("failed", last.error or "its last dispatch failed")
    if last is None and dag.last_run_state is None:
        return ModelState("waiting", "not dispatched yet")
    if last is None:
        return ModelState("waiting", "its last run succeeded, but the event store has no dispatch of it")
    return ModelState("ok", "its last dispatch succeeded")
