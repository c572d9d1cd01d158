"""Records the start and the end of a step in the event store, however it ends; used by every door."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlops_plugin.errors import EventStoreError, MlopsError
from mlops_plugin.events.records import Step
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.finality import is_final

# What a step counted; always has `rows`, None for `plan`. Small, and JSON: it becomes the task's XCom.
Counted = dict[str, Any]


@dataclass(frozen=True)
class Attempt:
    """Which try of a step this is, from 1, and whether Airflow will make another one after it.

    `partition` is the part of the rows that it is about, from 0; None where that is all of them.
    """

    number: int = 1
    is_final: bool = True
    partition: int | None = None


ONLY_TRY = Attempt()


class Report:
    """Receives what a step counted; calling it is the step's last act."""

    counted: Counted

    def __call__(self, counted: Counted) -> None:
        self.counted = counted


@contextlib.contextmanager
def recorded(
    step: Step, dispatch: Dispatch, store: EventStore, attempt: Attempt = ONLY_TRY
) -> Iterator[Report]:
    """Record the start and the end of what is done inside; errors are recorded, then raised unchanged."""
    store.begin(dispatch.identity)
    store.step_started(dispatch.id, step, attempt.number, partition=attempt.partition)
    report = Report()
    started = time.monotonic()
    try:
        yield report
    except BaseException as error:  # whatever ended the step is recorded, and goes on
        try:
            store.step_failed(
                dispatch.id,
                step,
                attempt.number,
                partition=attempt.partition,
                seconds=time.monotonic() - started,
                error=str(error) if isinstance(error, MlopsError) else _named(error),
                is_final=attempt.is_final or is_final(error, step),
            )
        except EventStoreError as unrecorded:
            error.add_note(f"and this failure could not be recorded: {unrecorded}")
        raise
    rows, seconds = report.counted["rows"], time.monotonic() - started
    store.step_succeeded(
        dispatch.id,
        step,
        attempt.number,
        partition=attempt.partition,
        rows=rows,
        seconds=seconds,
        details=report.counted,
    )


def _named(error: BaseException) -> str:
    """An error that is not ours says little without its type: `KeyError: 'id'`."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
