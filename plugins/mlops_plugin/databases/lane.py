"""A thread that does the work of one connection, so that whoever waits for it can stop waiting.

Drivers wait for their server in C, some without any limit: nothing can interrupt them. `limited_database`
uses this.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from mlops_plugin.interruptible import NotDone, abandon, result_within

_T = TypeVar("_T")
_WAKING_S = 1.0  # longer than a driver takes to notice that its connection was shut down
_Job = tuple[Callable[[], Any], "Future[Any]"]


class Lane:
    """Does one thing after the other. After a wait is abandoned, it accepts no further work."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # A daemon: a process that ends waits for no server.
        self._thread = threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True)
        self._thread.start()
        self._end = weakref.finalize(self, self._jobs.put, None)
        self.is_abandoned = False

    def run(self, work: Callable[[], _T], limit_s: float) -> _T:
        """Do the work there and return its result; raises `LaneBlocked` if it takes longer than the limit."""
        if threading.current_thread() is self._thread:
            return work()  # rows that are written may come from the same database
        if self.is_abandoned:
            raise LaneBlocked
        outcome: Future[_T] = Future()
        self._jobs.put((work, outcome))
        try:
            return result_within(outcome, limit_s)
        except NotDone:
            self._abandon()
            raise LaneBlocked from None
        except BaseException:
            if not outcome.done():  # interrupted
                self._abandon()
            raise

    def _abandon(self) -> None:
        """What the connection will answer some day must reach nobody."""
        self.is_abandoned = True
        abandon(self._thread)

    def end(self, last: Callable[[], object], limit_s: float) -> None:
        """Do the last work and end; abandoned if it takes longer."""
        if not self._end.alive:
            return
        outcome: Future[object] = Future()
        self._jobs.put((last, outcome))
        self._end()
        if self.is_abandoned:
            # It is done whenever the blocked work ends. A thread that wakes up while Python ends would crash
            # it inside of a driver, so one that is about to wake up is waited for.
            self._thread.join(_WAKING_S)
            return
        try:
            result_within(outcome, limit_s)
        except NotDone:
            abandon(self._thread)


class LaneBlocked(Exception):
    """What was waited for did not happen within its limit."""


def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        work, outcome = job
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            outcome.set_exception(error)
        del job, work, outcome  # the next job may be long in coming; rows must not be kept for it
