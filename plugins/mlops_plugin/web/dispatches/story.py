"""The story of one dispatch: its steps, their tries, and when each ran, put together from its events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from markupsafe import Markup, escape

from mlops_plugin.events.records import EventRecord, Step
from mlops_plugin.pipeline.dispatch import STEPS
from mlops_plugin.pipeline.infer_report import Report, whole_report
from mlops_plugin.web import figures

# In the words of the list of tries; a try whose process was killed could not record its end.
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
    outcome: str = RUNNING
    ended_at: datetime | None = None
    rows: int | None = None
    seconds: float | None = None
    error: str | None = None

    @property
    def what(self) -> str:
        return self.step if self.partition is None else f"{self.step} of partition {self.partition}"

    @property
    def work(self) -> tuple[Step, int | None]:
        return self.step, self.partition

    @property
    def rows_per_second(self) -> float | None:
        """None where it cannot be said."""
        return self.rows / self.seconds if self.rows is not None and self.seconds else None

    @property
    def badge(self) -> str:
        return figures.BADGES.get(self.outcome, "badge-warn")


def tell_tries(events: Sequence[EventRecord]) -> list[Try]:
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
            tries.append(Try(event.step, number, max(passes, 1), event.at, event.partition_number))
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


@dataclass(frozen=True)
class StepSummary:
    """One step as its last try left it, its partitions together; `last` is None before the first."""

    step: Step
    tries: int
    partitions: int
    last: Try | None


def summarise_steps(tries: Sequence[Try]) -> list[StepSummary]:
    """The steps in order, as the last pass of the dispatch left them or those before it."""
    found = []
    for step in _steps_of(tries):
        of_step = [each for each in tries if each.step == step]
        last = {each.partition: each for each in of_step}
        found.append(StepSummary(step, len(of_step), len(last), _together(list(last.values()))))
    return found


def infer_report_of(events: Sequence[EventRecord]) -> Report | None:
    """What the last `infer` that succeeded reported, of all partitions; None before the first."""
    ended = {
        event.partition_number: event.details
        for event in events
        if event.step == "infer" and event.kind == "succeeded" and event.details
    }
    return whole_report(list(ended.values()))


def _steps_of(tries: Sequence[Try]) -> list[Step]:
    """The four steps, after `plan` where there was one."""
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


_WIDTH, _LEFT, _ROW, _BAR = 640, 72, 30, 18


def timeline(tries: Sequence[Try], now: datetime) -> Markup | None:
    """The tries of the last pass as bars over time, a line for each step; None where there are none."""
    last = [each for each in tries if each.pass_number == tries[-1].pass_number] if tries else []
    if not last:
        return None
    start = min(each.started_at for each in last)
    end = max(each.ended_at or (now if each.outcome == RUNNING else each.started_at) for each in last)
    span = max((end - start).total_seconds(), 0.001)
    scale = (_WIDTH - _LEFT - 8) / span
    parts = []
    steps = _steps_of(last)
    lanes = max((each.partition or 0) for each in last) + 1
    for row, step in enumerate(steps):
        y = row * _ROW + 6
        parts.append(f'<text class="tick" x="0" y="{y + 14}">{step}</text>')
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y + 22}" y2="{y + 22}"/>')
        parts += [_bar(each, start, scale, now, y, lanes) for each in last if each.step == step]
    height = len(steps) * _ROW + 24
    parts.append(f'<text class="tick" x="{_LEFT}" y="{height - 4}">0 s</text>')
    whole = escape(figures.duration(span))
    parts.append(f'<text class="tick" text-anchor="end" x="{_WIDTH - 8}" y="{height - 4}">{whole}</text>')
    said = "; ".join(
        f"{each.what}, try {each.number}: {each.outcome}"
        + (f" in {figures.duration(each.seconds)}" if each.seconds is not None else "")
        for each in last
    )
    return Markup(  # noqa: S704 -- every text in it is escaped above
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-labelledby="timeline-title timeline-desc"><title id="timeline-title">Steps over time</title>'
        f'<desc id="timeline-desc">{escape(said)}</desc>{"".join(parts)}</svg>'
    )


def _bar(each: Try, start: datetime, scale: float, now: datetime, y: int, lanes: int) -> str:
    ended = each.ended_at or (now if each.outcome == RUNNING else each.started_at)
    x = _LEFT + (each.started_at - start).total_seconds() * scale
    width = max((ended - each.started_at).total_seconds() * scale, 2.0)
    look = {SUCCEEDED: "bar-ok", FAILED: "bar-bad", RUNNING: "bar-info"}.get(each.outcome, "bar-warn")
    top, height = (y, _BAR) if each.partition is None else (y + _BAR * each.partition / lanes, _BAR / lanes)
    tip = f"{each.what}, try {each.number}: {each.outcome}, {figures.duration(each.seconds)}"
    return (
        f'<rect class="{look}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}">'
        f"<title>{escape(tip)}</title></rect>"
    )
