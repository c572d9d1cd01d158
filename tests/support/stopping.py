"""Processes that a test stops at any of their points: they end there, fail there, or go on much later.

A process is a thread, and only one runs at a time: the test lets it run and waits until it has ended or
stands still. So the same story happens in the same order each time it is told.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Literal

How = Literal["pause", "kill", "fail"]
_ANSWER_S = 60.0


class Killed(BaseException):
    """Ends the thread of a process that was killed; nothing in the product may catch and survive it."""


class Broken(Exception):
    """What a process meets that fails at a point, e.g. a machine without memory."""


class Process:
    """Some work of one process: `advance` lets it run; once it `is_over`, `error` says why it failed."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.name = name
        self.error: BaseException | None = None
        self.doing: object = None  # what it does at the moment, for those who watch it
        self.is_over = False
        self._work = work
        self._is_dead = False
        self._is_locked = False
        self._left: int | None = None
        self._how: How = "pause"
        self._turn, self._answer = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def advance(self, points: int | None = None, how: How = "pause") -> None:
        """Let it run to its end, or until it passes so many points more and is then stopped in this way."""
        self._left, self._how = points, how
        self._turn.release()
        assert self._answer.acquire(timeout=_ANSWER_S), f"{self.name} hangs"

    def kill(self) -> None:
        """End it where it stands."""
        self._is_dead = True
        self.advance()

    def _run(self) -> None:
        self._turn.acquire()
        _here.process = self
        try:
            if not self._is_dead:
                self._work()
        except BaseException as error:  # noqa: BLE001 - the test asks for it
            self.error = error
        self.is_over = True
        self._answer.release()

    def pass_point(self) -> None:
        if self._is_dead:
            raise Killed(self.name)
        if self._left is None:
            return
        self._left -= 1
        if self._left > 0 or (self._how == "pause" and self._is_locked):
            return
        self._left = None
        match self._how:
            case "kill":
                self._is_dead = True
                raise Killed(self.name)
            case "fail":
                raise Broken(self.name)
            case "pause":
                self._answer.release()
                self._turn.acquire()
                if self._is_dead:
                    raise Killed(self.name)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """While it holds a lock that others wait for, it is not paused: they would wait in vain."""
        self._is_locked = True
        try:
            yield
        finally:
            self._is_locked = False


class _Here(threading.local):
    process: Process | None = None


_here = _Here()


def current() -> Process | None:
    """The process whose thread this is."""
    return _here.process


def point() -> None:
    """A place at which the process that comes by may be stopped."""
    if _here.process is not None:
        _here.process.pass_point()
