"""Records the start and the end of a step in the event store, however it ends; every door uses it.

It also decides which failures a retry cannot fix: the operators tell Airflow, and the dispatch is closed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlops_plugin.errors import (
    AccountingError,
    EventStoreError,
    KeyColumnError,
    MlopsError,
    StepEnded,
    TrySuperseded,
    UnsupportedType,
)
from mlops_plugin.events.details.milestones import TryStart
from mlops_plugin.events.details.process_identity import ProcessIdentity
from mlops_plugin.events.details.step_reports import StepReport
from mlops_plugin.events.fencing import TryToken
from mlops_plugin.events.records import Step
from mlops_plugin.events.store import EventStore
from mlops_plugin.interruptible import Execute, at_once
from mlops_plugin.pipeline.dispatch import Dispatch

# `collect` reads the source again, whose rows may be corrected meanwhile. The steps after it have the rows,
# the artifact and the configuration that the dispatch has pinned: they find again what they found.
_OF_PINNED_ROWS = (KeyColumnError, UnsupportedType)


@dataclass(frozen=True)
class Attempt:
    """Which try of a step this is, from 1, and whether Airflow will make another one after it.

    `partition` is the part of the rows that it works on, from 0; None means all rows. `id` is Airflow's id of
    the try, which grows with time, and `clears` how often tasks of its run have been cleared; None outside of
    Airflow. `task` is the task if it runs all steps, so that they share the number of the try.
    """

    number: int = 1
    is_final: bool = True
    partition: int | None = None
    id: str | None = None
    clears: int | None = None
    task: str | None = None


ONLY_TRY = Attempt()


@dataclass
class TryRecord:
    """A try that is under way; its step sets `report` as its last act.

    Once it `is_over`, its end is being recorded: a thread that was given up may still work on it.
    """

    token: TryToken
    report: StepReport | None = None
    is_over: bool = False


@contextlib.contextmanager
def recorded(
    step: Step,
    dispatch: Dispatch,
    store: EventStore,
    attempt: Attempt = ONLY_TRY,
    execute: Execute = at_once,
) -> Iterator[TryRecord]:
    """Record the start and the end of the work inside; errors are recorded, then raised unchanged.

    Raises `TrySuperseded` if a newer try has registered: before the work, or when it is done. A failure that
    cannot be recorded soon is raised without: the task has maybe no time left.
    """
    started_by, part = _start(attempt), attempt.partition
    token = execute(
        lambda: store.start_step(dispatch.identity, step, attempt.number, partition=part, made_by=started_by)
    )
    record = TryRecord(token)
    started = time.monotonic()
    try:
        yield record
    except BaseException as error:  # whatever ended the step is recorded, and goes on
        record.is_over = True
        seconds = time.monotonic() - started
        message, closes = _in_words(error), attempt.is_final or is_final(error, step)
        closes &= not isinstance(error, StepEnded)  # the step that has failed closes the dispatch

        def record_failure() -> None:
            store.step_failed(
                dispatch.id,
                step,
                attempt.number,
                partition=part,
                seconds=seconds,
                error=message,
                is_final=closes,
                token=token,
            )

        _record_in_time(error, record_failure, execute, store.address.limits.record_s)
        raise
    record.is_over = True
    report, seconds = record.report, time.monotonic() - started
    assert report is not None  # noqa: S101 -- the step's last act
    execute(
        lambda: store.step_succeeded(
            dispatch.id,
            step,
            attempt.number,
            partition=part,
            rows=report.rows,
            seconds=seconds,
            report=report,
            token=token,
        )
    )


def _record_in_time(
    error: BaseException, record: Callable[[], None], execute: Execute, limit_s: float
) -> None:
    """Record a failure; if the event store does not take it in time, the error says so."""
    try:
        execute(record, limit_s)
    except (EventStoreError, TrySuperseded) as unrecorded:
        if error is not unrecorded:
            error.add_note(f"and this failure was not recorded: {unrecorded}")
    except TimeoutError:
        error.add_note(f"and this failure was not recorded: no answer from the event store in {limit_s:g} s")


def is_final(error: BaseException, step: Step) -> bool:
    """Whether this step would fail in the same way again, however long one waits."""
    if not isinstance(error, MlopsError):
        return False
    if step in ("log", "infer", "persist") and isinstance(error, _OF_PINNED_ROWS):
        return True
    # In `persist` another process may have changed the table.
    return error.is_final or (step == "infer" and isinstance(error, AccountingError))


def _start(attempt: Attempt) -> TryStart:
    """What is recorded with the start of a try: who makes it."""
    return TryStart(ProcessIdentity.current(), attempt.id, attempt.clears, attempt.task)


def _in_words(error: BaseException) -> str:
    """An error that is not ours means little without its type: `KeyError: 'id'`.

    And a task's timeout means little without what it has interrupted, which is in its notes.
    """
    if isinstance(error, MlopsError):
        return str(error)
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return "; ".join([message, *getattr(error, "__notes__", ())])
