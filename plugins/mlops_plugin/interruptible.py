"""Does work in a thread that can be abandoned, so that a timeout or a signal ends the wait for it at once.

Python handles signals in the main thread, and only between two of its own instructions: a driver that waits
for a server would block them. An abandoned thread ends with the process.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

_T = TypeVar("_T")


class Execute(Protocol):
    """How work is done: here, or in a thread. Raises what the work raises."""

    def __call__(self, work: Callable[[], _T], limit_s: float | None = None) -> _T: ...


def at_once(work: Callable[[], _T], limit_s: float | None = None) -> _T:  # noqa: ARG001 - of the protocol
    """Do the work here, however long it takes."""
    return work()


def interruptible(work: Callable[[], _T], limit_s: float | None = None) -> _T:
    """Do the work in a thread of its own; raises `TimeoutError` if it takes longer than the limit."""
    outcome: Future[_T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            outcome.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True, name="step").start()
    return outcome.result(limit_s)
