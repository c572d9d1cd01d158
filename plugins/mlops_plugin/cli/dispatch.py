"""A dispatch in the terminal: the same steps, a progress bar, and the row counts at the end."""

from __future__ import annotations

import contextlib
import getpass
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlops_plugin.errors import MlopsError, ThresholdError
from mlops_plugin.events.details.step_reports import InferReport, PersistReport, ReasonCount, StepReport
from mlops_plugin.events.records import Step
from mlops_plugin.orchestration.data_intervals import interval_at
from mlops_plugin.orchestration.rendering import render, require_interval
from mlops_plugin.pipeline.dispatch import Dispatch, new_dispatch_id
from mlops_plugin.pipeline.recording.infer_reports import merge_reports
from mlops_plugin.pipeline.recording.reconciliation import close_abandoned
from mlops_plugin.pipeline.runner import run_dispatch
from mlops_plugin.pipeline.validation.column_check import NOT_OF_TYPE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.pipeline.deployment import Deployment
    from mlops_plugin.pipeline.staging.shelf import OnRows
    from mlops_plugin.pipeline.validation.quarantine import Example

_MOST_REASONS = 10
_NOT_A_NUMBER = NOT_OF_TYPE["number"]


def dispatch_in_terminal(
    model: ModelConfig,
    deployment: Deployment,
    *,
    interval: tuple[datetime, datetime] | None = None,
    row_limit: int | None = None,
    is_dry_run: bool = False,
    is_quarantined: bool = False,
    overwrites_newer: bool = False,
) -> None:
    """Dispatch a model in this process and show its progress; raises what the step raises."""
    from rich.console import Console

    # Log lines would break the progress bar.
    logging.getLogger("mlops_plugin").setLevel(logging.WARNING)
    now = datetime.now(UTC)
    # As for a run that a schedule starts for this interval, and for one that somebody starts now.
    logical_date = now if interval is None else interval[0]
    dispatch = Dispatch(
        id=new_dispatch_id(),
        model=model,
        origin="terminal",
        requested_by=terminal_user(),
        data_interval=interval or interval_at(model, now),
        logical_date=logical_date,
        row_limit=row_limit,
        is_dry_run=is_dry_run,
        reads_own_interval=interval is not None,
        is_quarantined=is_quarantined,
        overwrites_newer=overwrites_newer,
    )

    def query() -> str:
        require_interval(model, model.source.query, dispatch.data_interval or (now, now))
        return render(
            model.source.query,
            model,
            moment=logical_date,
            interval=dispatch.data_interval,
            row_limit=row_limit,
            dry_run=is_dry_run,
            quarantined=is_quarantined,
        )

    with deployment.event_store() as store:
        close_abandoned(store)
    console = Console(highlight=False)
    console.print(f"[bold]{model.name}[/bold]  dispatch {dispatch.id}")
    started = time.monotonic()
    try:
        with _progress(console) as progress:
            reports = run_dispatch(dispatch, deployment, query, lambda step: _bar(progress, step))
    except ThresholdError:
        _print_rejected(console, dispatch, deployment)
        raise
    _print_accounts(console, dispatch, deployment, reports, time.monotonic() - started)


def terminal_user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return None


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description:8}"),
        BarColumn(),
        TextColumn("{task.completed:>12,.0f} rows"),
        TextColumn("{task.fields[rate]:>12}"),
        TimeElapsedColumn(),
        console=console,
    )


@contextlib.contextmanager
def _bar(progress: Progress, step: Step) -> Iterator[OnRows]:
    task = progress.add_task(step, total=_collected(progress), rate="")
    started = time.monotonic()

    def on_rows(rows: int) -> None:
        done = progress.tasks[task].completed + rows
        rate = done / max(time.monotonic() - started, 1e-9)
        progress.update(task, advance=rows, rate=f"{rate:,.0f}/s")

    yield on_rows
    # `log` handles no rows; its bar shows all of them.
    done = _collected(progress) or 0 if step == "log" else progress.tasks[task].completed
    progress.update(task, total=done, completed=done)
    if step == "collect":  # other steps may be at work
        for each in progress.tasks:
            progress.update(each.id, total=done)


def _collected(progress: Progress) -> float | None:
    """The number of rows; None before the end of `collect`."""
    return next((task.total for task in progress.tasks if task.description == "collect"), None)


def _print_accounts(
    console: Console,
    dispatch: Dispatch,
    deployment: Deployment,
    reports: Mapping[Step, StepReport],
    seconds: float,
) -> None:
    report = reports["persist"]
    assert isinstance(report, PersistReport)  # noqa: S101 -- what `persist` returns
    accounts = report.accounts
    counts = {name: count for name, count in asdict(accounts).items() if count or name != "superseded"}
    console.print(
        "  ".join(f"{name} [bold]{count:,}[/bold]" for name, count in counts.items())
        + f"  in {seconds:.1f} s"
    )
    if accounts.superseded:
        console.print("superseded: the table holds predictions of a newer dispatch; see --overwrite-newer")
    if accounts.rejected:
        quarantine = dispatch.model.quarantine_sink
        where = "not stored" if dispatch.is_dry_run else f"table {quarantine.table}"
        where += "" if dispatch.is_dry_run else f", connection '{quarantine.connection}'"
        console.print(f"rejected: {where}")
        _print_rejected(console, dispatch, deployment)
    sink = dispatch.model.sink
    where = f"table {sink.table}, connection '{sink.connection}'"
    console.print(
        f"dry run: nothing was written to {where}" if dispatch.is_dry_run else f"predictions: {where}"
    )


def _print_rejected(console: Console, dispatch: Dispatch, deployment: Deployment) -> None:
    """Print the reasons, if rows were rejected, as the event store and the quarantine have them."""
    with deployment.event_store() as store:
        events = store.events(dispatch.id)
    reports = [event.details for event in events if isinstance(event.details, InferReport)]
    report = merge_reports(reports)
    if report is None or not report.reasons:
        return
    examples = _examples(dispatch, deployment)
    for found in report.reasons[:_MOST_REASONS]:
        console.print(f"  {_line(found, examples)}", markup=False, soft_wrap=True)
    if len(report.reasons) > _MOST_REASONS:
        console.print(f"  and {len(report.reasons) - _MOST_REASONS} more reasons")


def _examples(dispatch: Dispatch, deployment: Deployment) -> Mapping[tuple[str | None, str], Example]:
    if dispatch.is_dry_run:  # it stores none
        return {}
    from mlops_plugin.pipeline.validation.quarantine import Quarantine

    try:
        return Quarantine(dispatch.model, dispatch.id, deployment).examples()
    except MlopsError:  # the reasons say enough, and the dispatch's own outcome must be seen
        return {}


def _line(found: ReasonCount, examples: Mapping[tuple[str | None, str], Example]) -> str:
    rows = "1 row" if found.rows == 1 else f"{found.rows:,} rows"
    line = f"{rows}: '{found.column}' {found.reason}" if found.column else f"{rows}: {found.reason}"
    example = examples.get((found.column, found.reason))
    if example is None:
        return line
    value = "NULL" if example.value is None else repr(example.value)
    line += f", e.g. {value} of key {example.key}" if found.column else f", e.g. key {example.key}"
    if found.reason == _NOT_A_NUMBER and example.value is not None:
        literal = example.value.replace("'", "''")
        line += f"; if it means a missing value, write NULLIF({found.column}, '{literal}') in the query"
    return line
