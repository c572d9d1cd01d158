"""Tries of single steps, as tasks make them, and steps that stand still in the middle."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mlops_plugin.events.records import Step
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.runner import run_step
from mlops_plugin.pipeline.staging.shelf import OnRows, unheard
from support.workshop import Workshop


def step(
    workshop: Workshop,
    dispatch: Dispatch,
    name: Step,
    number: int = 1,
    *,
    partition: int | None = None,
    on_rows: OnRows = unheard,
) -> None:
    """One try of a step as a task makes it."""
    query = dispatch.model.source.query
    attempt = Attempt(number, is_final=False, partition=partition)
    run_step(name, dispatch, workshop.deployment, query=lambda: query, attempt=attempt, on_rows=on_rows)


class Paused:
    """A step that stops in the middle, as if its process were stopped, until `resume` lets it end."""

    def __init__(self, work: Callable[[OnRows], None]) -> None:
        self._reached, self._go_on = threading.Event(), threading.Event()
        self.error: BaseException | None = None

        def pause(rows: int) -> None:
            if not self._reached.is_set():
                self._reached.set()
                self._go_on.wait(60)

        def run() -> None:
            try:
                work(pause)
            except BaseException as error:  # noqa: BLE001 - the test asks for it
                self.error = error
            finally:
                self._reached.set()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert self._reached.wait(60)

    def resume(self) -> BaseException | None:
        self._go_on.set()
        self._thread.join(60)
        return self.error
