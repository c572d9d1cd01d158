"""The story of one dispatch: its steps, their tries, and when each ran, derived from its events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mlops_plugin.events.details.milestones import TryStart
from mlops_plugin.events.details.step_reports import InferReport, LogReport, PersistReport, RegisteredVersion
from mlops_plugin.events.reading import last_reports
from mlops_plugin.events.records import EventRecord, Step
from mlops_plugin.pipeline.dispatch import STEPS
from mlops_plugin.pipeline.recording.infer_reports import merge_reports
from mlops_plugin.web.languages.translation import gettext as _

# Outcomes of a try. A try whose process was killed could not record its end.
RUNNING, SUCCEEDED, FAILED, LOST = "running", "succeeded", "failed", "no end recorded"


@dataclass(frozen=True)
class Try:
    """One try of one step, or of one partition (from 0) of it.

    `pass_number` counts how often the dispatch was begun or opened again, from 1.
    """

    step: Step
    number: int
    pass_number: int
    started_at: datetime
    partition: int | None = None
    task: str | None = None  # Airflow's, if it runs all steps
    outcome: str = RUNNING
    ended_at: datetime | None = None
    rows: int | None = None
    seconds: float | None = None
    error: str | None = None

    @property
    def what(self) -> str:
        if self.partition is None:
            return self.step
        return _("%(step)s of partition %(number)s", step=self.step, number=self.partition)

    @property
    def work(self) -> tuple[Step, int | None]:
        return self.step, self.partition

    @property
    def rows_per_second(self) -> float | None:
        """None if rows or seconds are unknown."""
        return self.rows / self.seconds if self.rows is not None and self.seconds else None


def list_tries(events: Sequence[EventRecord]) -> list[Try]:
    """All tries in the order in which they started."""
    tries: list[Try] = []
    passes = 0
    for event in events:
        if event.step is None:
            passes += event.kind == "started"
            if event.kind != "started":
                tries = [_lost(found) for found in tries]
            continue
        number = event.try_number or 1
        if event.kind == "started":
            tries = [
                _lost(found) if found.work == (event.step, event.partition_number) else found
                for found in tries
            ]
            task = event.details.task if isinstance(event.details, TryStart) else None
            tries.append(Try(event.step, number, max(passes, 1), event.at, event.partition_number, task))
        elif event.kind in ("succeeded", "failed"):
            tries = _ended(tries, event, number, max(passes, 1))
    return tries


def _lost(found: Try) -> Try:
    return replace(found, outcome=LOST) if found.outcome == RUNNING else found


def _ended(tries: list[Try], event: EventRecord, number: int, passes: int) -> list[Try]:
    open_ones = [
        place
        for place, found in enumerate(tries)
        if found.outcome == RUNNING
        and (*found.work, found.number) == (event.step, event.partition_number, number)
    ]
    assert event.step is not None  # noqa: S101 -- the caller has looked
    begun = (
        tries[open_ones[-1]]
        if open_ones
        else Try(event.step, number, passes, event.at, event.partition_number)
    )
    ended = replace(
        begun,
        outcome=SUCCEEDED if event.kind == "succeeded" else FAILED,
        ended_at=event.at,
        rows=event.row_count,
        seconds=event.seconds,
        error=event.error,
    )
    if not open_ones:
        return [*tries, ended]
    return [*tries[: open_ones[-1]], ended, *tries[open_ones[-1] + 1 :]]


def step_to_resume(tries: Sequence[Try]) -> Step | None:
    """The first step of a failed dispatch that failed, if clearing it and what follows is enough.

    The rows that `collect` has staged are kept for it. None if `collect` failed itself, or if one task runs
    all steps: that one starts again.
    """
    last = {each.work: each for each in _since_plan(tries)}.values()
    failed = {each.step for each in last if each.outcome in (FAILED, LOST)}
    if any(each.task for each in last) or failed & {"plan", "collect"}:
        return None
    return next((step for step in STEPS if step in failed), None)


@dataclass(frozen=True)
class StepSummary:
    """One step as its last try left it, its partitions together; `last` is None before the first."""

    step: Step
    tries: int
    partitions: int
    last: Try | None


def summarise_steps(tries: Sequence[Try]) -> list[StepSummary]:
    """The steps in order, as the last pass of the dispatch left them or those before it."""
    found, planned = [], _since_plan(tries)
    for step in steps_of(tries):
        of_step = [each for each in tries if each.step == step]
        last = {each.partition: each for each in planned if each.step == step} or {
            each.partition: each for each in of_step
        }
        found.append(StepSummary(step, len(of_step), len(last), _together(list(last.values()))))
    return found


def _since_plan(tries: Sequence[Try]) -> list[Try]:
    """Without the tries of partitions that an earlier plan had: a later one may have others, or fewer."""
    plans = [place for place, each in enumerate(tries) if each.step == "plan" and each.outcome == SUCCEEDED]
    newest = plans[-1] if plans else 0
    return [each for place, each in enumerate(tries) if each.partition is None or place > newest]


def infer_report_of(events: Sequence[EventRecord]) -> InferReport | None:
    """What the last `infer` that succeeded reported, of all partitions; None before the first."""
    return merge_reports(
        last_reports(
            (event.step, event.partition_number, event.details)
            for event in events
            if event.kind == "succeeded"
        )
    )


def explains_case(events: Sequence[EventRecord]) -> bool:
    """Whether it is a Showroom run that has explained a case."""
    return any(
        isinstance(event.details, PersistReport) and event.details.place.explanation is not None
        for event in events
    )


def signature_of(events: Sequence[EventRecord]) -> str | None:
    """The hash of the signature that the last `log` has pinned; None if the model had none."""
    logged = [event.details for event in events if isinstance(event.details, LogReport)]
    return logged[-1].signature_sha256 if logged else None


def registered_of(events: Sequence[EventRecord]) -> RegisteredVersion | None:
    """The version of a registered model that the last `log` has pinned; None for any other model."""
    logged = [event.details for event in events if isinstance(event.details, LogReport)]
    return logged[-1].registered if logged else None


def steps_of(tries: Sequence[Try]) -> list[Step]:
    """The four steps, after `plan` if there was one."""
    planned: list[Step] = ["plan"] if any(each.step == "plan" for each in tries) else []
    return [*planned, *STEPS]


def _together(parts: Sequence[Try]) -> Try | None:
    """The last tries of a step's partitions as one: as long as any runs it runs, and one failure fails it."""
    if len(parts) < 2:
        return parts[0] if parts else None
    worst = min(parts, key=lambda part: _GRAVITY.index(part.outcome))
    ended = [part.ended_at for part in parts if part.ended_at]
    started_at, ended_at = min(part.started_at for part in parts), max(ended, default=None)
    return replace(
        worst,
        started_at=started_at,
        ended_at=ended_at,
        rows=sum(part.rows or 0 for part in parts),
        seconds=None if ended_at is None else (ended_at - started_at).total_seconds(),
    )


_GRAVITY = (RUNNING, FAILED, LOST, SUCCEEDED)
