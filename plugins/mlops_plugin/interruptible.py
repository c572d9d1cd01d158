"""Does work in a thread that can be abandoned, so that a timeout or a signal ends the wait for it at once.

Python handles signals in the main thread, and only between two of its own instructions: a driver that waits
for a server would block them. An abandoned thread ends with the process.
"""

from __future__ import annotations

import contextvars
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Protocol, TypeVar

_T = TypeVar("_T")
_waits: weakref.WeakKeyDictionary[threading.Thread, str] = weakref.WeakKeyDictionary()
_abandoned: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


class Execute(Protocol):
    """How work is done: here, or in a thread. Raises what the work raises."""

    def __call__(self, work: Callable[[], _T], limit_s: float | None = None) -> _T: ...


def at_once(work: Callable[[], _T], limit_s: float | None = None) -> _T:  # noqa: ARG001 - of the protocol
    """Do the work here, however long it takes."""
    return work()


def interruptible(work: Callable[[], _T], limit_s: float | None = None) -> _T:
    """Do the work in a thread of its own; raises `TimeoutError` if it takes longer than the limit.

    What interrupts it gets a note of what the thread was `waiting` for.
    """
    outcome: Future[_T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            outcome.set_exception(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True, name="step")
    try:
        thread.start()
        return result_within(outcome, limit_s)
    except BaseException as error:
        if not outcome.done():
            if what := _waits.get(thread):
                error.add_note(f"while {what}")
            abandon(thread)
        raise


class NotDone(TimeoutError):
    """Work has not ended within the limit of a wait for it."""


def result_within(outcome: Future[_T], limit_s: float | None) -> _T:
    """What work returns or raises; raises `NotDone` if it takes longer than the limit.

    It may end after the wait has, and before this thread goes on: then its outcome counts.
    """
    wait([outcome], limit_s)
    if not outcome.done():
        raise NotDone
    return outcome.result()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """This thread waits for something, in words: "running the query: waiting for ..."."""
    thread = threading.current_thread()
    _waits[thread] = what
    try:
        yield
    finally:
        _waits.pop(thread, None)


def abandon(thread: threading.Thread) -> None:
    """Nobody waits for this thread any more; see `end_beside_abandoned`."""
    _abandoned.add(thread)


def end_beside_abandoned(status: int) -> None:
    """End the process now if an abandoned thread still works; Python would crash in it while it ends."""
    if any(thread in _abandoned for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        logging.shutdown()
        os._exit(status)
