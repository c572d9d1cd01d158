"""A list of dispatches as its page writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import quote

from mlops_plugin.events.reading import DispatchFilter, DispatchLine
from mlops_plugin.events.records import State
from mlops_plugin.events.store import EventStore
from mlops_plugin.events.tries import idle_seconds, read_moments
from mlops_plugin.web.badges import badge_of
from mlops_plugin.web.languages.translation import ngettext
from mlops_plugin.web.languages.written_values import format_count, format_duration

COUNT_LIMIT = 10_000  # counting stops here


@dataclass(frozen=True)
class TimedLine:
    """A dispatch with the seconds that it took, and those that it lay idle between tries beside them."""

    line: DispatchLine
    seconds: float | None
    idle: float = 0.0


@dataclass(frozen=True)
class Row:
    """One dispatch in the list; links are paths below our own root and below Airflow's."""

    line: DispatchLine
    badge: str
    link: str
    duration: str
    idle: str | None
    collected: str
    predicted: str
    rejected: str
    persisted: str
    airflow_run: str | None
    airflow_logs: str | None


def measure_lines(store: EventStore, lines: Sequence[DispatchLine], now: datetime) -> list[TimedLine]:
    """How long each took so far; the events of those that may have waited for a try are read for it."""
    may_have_waited = [line.dispatch_id for line in lines if line.tries > 1 or line.state == "running"]
    moments = read_moments(store, may_have_waited)
    found = []
    for line in lines:
        is_running = line.state == "running"
        whole = (now - line.created_at).total_seconds() if is_running else line.seconds
        idle = idle_seconds(moments.get(line.dispatch_id, ()), now if is_running else None)
        found.append(TimedLine(line, None if whole is None else max(0.0, whole - idle), idle))
    return found


def present_line(timed: TimedLine, *, is_one_task: bool = False, tab: str | None = None) -> Row:
    """A dispatch for the list; one that runs shows how long it has been running.

    If the model's steps are one task now, logs are found from the run's page: they may not have been then.
    """
    line = timed.line
    run = airflow_run_path(line.dag_id, line.run_id)
    # The step that has not counted its rows is the one that runs or failed.
    counted = (("collect", line.rows_collected), ("infer", line.rows_predicted))
    step = next((step for step, rows in counted if rows is None), "persist")
    return Row(
        line=line,
        badge=badge_of(line.state),
        link=dispatch_path(line.dispatch_id, tab),
        duration=format_duration(timed.seconds),
        idle=format_duration(timed.idle) if timed.idle >= 1 else None,
        collected=format_count(line.rows_collected),
        predicted=format_count(line.rows_predicted),
        rejected=format_count(line.rows_rejected),
        persisted=format_count(line.rows_persisted),
        airflow_run=run,
        airflow_logs=run if run is None or is_one_task else f"{run}/tasks/{step}",
    )


def dispatch_path(dispatch_id: str, tab: str | None = None) -> str:
    """Our page of a dispatch, in the tab that leads to it."""
    page = f"dispatches/{quote(dispatch_id, safe='')}"
    return page if tab is None else f"{page}?tab={tab}"


def airflow_run_path(dag_id: str | None, run_id: str | None) -> str | None:
    """Airflow's page of a DAG run; None if the dispatch has no run."""
    if dag_id is None or run_id is None:
        return None
    return f"dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"


def airflow_log_path(run: str | None, task: str, partition: int | None, number: int) -> str | None:
    """Airflow's page with the log of one try; `run` is the run's page, a partition's number its map index."""
    if run is None:
        return None
    mapped = "" if partition is None else f"/mapped/{partition}"
    return f"{run}/tasks/{task}{mapped}?try_number={number}"


@dataclass(frozen=True)
class StateCount:
    """So many dispatches in words; `state` if the list can be narrowed to them."""

    words: str
    state: State | None = None


def count_states(count: Callable[[DispatchFilter], int], wanted: DispatchFilter) -> list[StateCount]:
    """How many dispatches match, and without a filter by state how many of them are running or failed."""
    all_of_them = count(wanted)
    words = ngettext("%(count)s dispatch", "%(count)s dispatches", all_of_them, count=_bounded(all_of_them))
    if wanted.state is not None:
        return [StateCount(words)]
    running, failed = count(replace(wanted, state="running")), count(replace(wanted, state="failed"))
    running_words = ngettext("%(count)s running", "%(count)s running", running, count=_bounded(running))
    failed_words = ngettext("%(count)s failed", "%(count)s failed", failed, count=_bounded(failed))
    return [
        StateCount(words),
        StateCount(running_words, "running" if running else None),
        StateCount(failed_words, "failed" if failed else None),
    ]


def _bounded(count: int) -> str:
    return f"{format_count(COUNT_LIMIT)}+" if count > COUNT_LIMIT else format_count(count)
