"""The state of a model, derived from what Airflow and the event store know; this module reads neither."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, Protocol

from mlops_plugin.events.records import DispatchRecord, State
from mlops_plugin.events.tries import Retry
from mlops_plugin.formatting import format_period
from mlops_plugin.sentences import Sentence

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
QUEUED = Sentence("queued")


class DagSeen(Protocol):
    """What Airflow knows about the DAG of a model; times are aware UTC.

    Its last run is no backfill and no dry run.
    """

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
    """One word, and why: a `Sentence`, or the text of an error."""

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
    opened_at: datetime | None = None,
) -> ModelState:
    """The state of a model; the most urgent comes first.

    Late: it was due, `late_after` has passed, and nothing has started. Missed: the next one is due as well,
    or dispatches were due since the last run that Airflow no longer plans. What was due while it was paused
    counts from the moment when it was resumed. Overrun: it runs longer than the period of its schedule, or
    than `limit`.
    `problem` is what is wrong with its configuration, `last` the result of `last_dispatch`, `opened_at` when
    that was last opened, if it runs: it began then, or was cleared.
    """
    if problem is not None:
        return ModelState("broken configuration", problem)
    if dag is None or dag.is_stale:
        return ModelState(
            "not in Airflow",
            Sentence("Airflow has not read its DAG yet, or cannot read it: see Import Errors"),
        )
    period = _period(dag)
    allowed = min((bound for bound in (period, limit) if bound), default=None)
    if dag.last_run_state == "running":
        return _running(
            dag.last_run_start or dag.last_run_after or now, dag.last_run_after, now, allowed, late_after
        )
    if last is not None and last.state == "running":
        # Not the last run: a backfill, the terminal's, or one that began before the last and is slower.
        return _running(opened_at or last.created_at, None, now, allowed, late_after)
    if not dag.is_paused and (overdue := _overdue(dag, now, period, late_after)):
        return overdue
    if dag.is_paused:
        return ModelState("paused", Sentence("paused: no dispatch starts until you resume it"))
    return _idle_state(dag, last)


def as_far_as_known(state: ModelState, *, is_read: bool) -> ModelState:
    """The state; unknown if it rests on an event store that was not read yet."""
    if not is_read and state.word in ("ok", "waiting") and state.why != QUEUED:
        return ModelState("unknown", Sentence("the event store has not answered yet"))
    return state


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


def retry_words(retry: Retry, retries: int) -> Sentence:
    """`try 2 of 3 of collect, after: no route to host`; a run that was cleared may have more tries."""
    known = {"number": retry.number, "step": retry.step, "error": retry.error}
    if retry.number <= retries + 1:
        return Sentence("try %(number)s of %(most)s of %(step)s, after: %(error)s", most=retries + 1, **known)
    return Sentence("try %(number)s of %(step)s, after: %(error)s", **known)


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
        why = Sentence(
            "running for %(time)s, longer than its limit of %(limit)s",
            time=format_period(took),
            limit=format_period(allowed),
        )
        return ModelState("overrun", why)
    why = Sentence("running for %(time)s", time=format_period(took))
    late = started - due if due else timedelta(0)
    if late > late_after:
        why = Sentence("%(running)s; it started %(time)s late", running=why, time=format_period(late))
    return ModelState("running", why)


def _overdue(
    dag: DagSeen, now: datetime, period: timedelta | None, late_after: timedelta
) -> ModelState | None:
    is_queued = dag.last_run_state == "queued"
    due = dag.last_run_after if is_queued else dag.next_run_after
    if due is None or now < due:
        return None
    since = max(due, dag.resumed_at or due)
    if not is_queued and (missed_before := _missed_before(dag, now, period, late_after)):
        return missed_before
    waited = now - since
    if waited <= late_after:
        return None
    time = format_period(waited)
    began = (
        Sentence("due %(time)s ago", time=time)
        if since == due
        else Sentence("resumed %(time)s ago", time=time)
    )
    waits = Sentence("queued, but not started") if is_queued else Sentence("nothing has started")
    why = Sentence("%(began)s, %(waits)s", began=began, waits=waits)
    if period is None or waited < period or is_queued:
        return ModelState("late", why)
    count = waited // period
    missed = (
        Sentence("one dispatch missed: %(why)s", why=why)
        if count == 1
        else Sentence("%(count)s dispatches missed: %(why)s", count=count, why=why)
    )
    return ModelState("missed", missed)


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
    since = max(last, dag.resumed_at or last)
    if since >= start or now - since <= period + late_after:
        return None
    time = format_period(now - since)
    started = dag.last_run_start
    if since == last:
        why = Sentence("the last run was due %(time)s ago, nothing has started since", time=time)
    elif started is not None and started >= since:  # what was due before it was resumed
        time = format_period(now - started)
        why = Sentence("the last run started %(time)s ago, nothing has started since", time=time)
    else:
        why = Sentence("resumed %(time)s ago, nothing has started since", time=time)
    return ModelState("missed", why)


def _idle_state(dag: DagSeen, last: DispatchRecord | None) -> ModelState:
    if dag.last_run_state == "queued":
        return ModelState("waiting", QUEUED)
    # A run may fail before its first step could record anything, and a terminal's dispatch has no run.
    is_run_newer = dag.last_run_end is not None and (last is None or dag.last_run_end >= last.updated_at)
    if dag.last_run_state == "failed" and is_run_newer:
        error = last.error if last and last.state == "failed" else None
        return ModelState("failed", error or Sentence("its last run failed"))
    if last is not None and last.state == "failed":
        return ModelState("failed", last.error or Sentence("its last dispatch failed"))
    if last is None and dag.last_run_state is None:
        return ModelState("waiting", Sentence("not dispatched yet"))
    if last is None:
        why = Sentence("its last run succeeded, but the event store has no dispatch of it")
        return ModelState("waiting", why)
    return ModelState("ok", Sentence("its last dispatch succeeded"))
