"""What the steps of one dispatch tell each other while they run at the same time, each in its thread.

A step reads a file that another one is still writing: it follows the file's blocks. Nobody waits for a
reader, so a source is read as fast as it gives rows; the disk holds what slower steps have not reached yet.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from mlops_plugin.errors import RowsLate, StepEnded
from mlops_plugin.events.records import Step

_T = TypeVar("_T")


class Relay:
    """Ends all steps of a dispatch once one of them has failed; makes what they wait for."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._failed: tuple[Step, BaseException] | None = None

    @property
    def failed(self) -> tuple[Step, BaseException] | None:
        """The first step that has failed, and why."""
        return self._failed

    def fail(self, step: Step, error: BaseException) -> None:
        """Wake up whoever waits; only the first failure counts."""
        with self.changed:
            self._failed = self._failed or (step, error)
            self.changed.notify_all()

    def require_running(self) -> None:
        """Raise `StepEnded` if a step has failed."""
        if self._failed is not None:
            raise self.ending()

    def ending(self) -> StepEnded:
        """Why the other steps end."""
        step = self._failed and self._failed[0]
        return StepEnded(f"ended, because '{step}' of the same dispatch failed")

    def wait(self, is_so: Callable[[], bool], patience_s: float | None = None) -> None:
        """Raise `StepEnded` once a step has failed, and `RowsLate` if it takes longer than this."""
        with self.changed:
            self.changed.wait_for(lambda: self._failed is not None or is_so(), patience_s)
            self.require_running()
            if not is_so():
                raise RowsLate(f"no further rows within {patience_s:g} s")


class Handed(Generic[_T]):
    """Something that one step gives to others, once."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._values: list[_T] = []

    def give(self, value: _T) -> None:
        with self._relay.changed:
            self._values.append(value)
            self._relay.changed.notify_all()

    def take(self, patience_s: float | None = None) -> _T:
        """Wait for it; raises as `Relay.wait`."""
        self._relay.wait(lambda: bool(self._values), patience_s)
        return self._values[0]


class GrowingBlocks:
    """The blocks of a file that is being written. Who iterates waits for the next one."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._blocks: list[Sequence[int]] = []
        self._is_complete = False
        self._is_given_up = False
        self._patience_s: float | None = None

    def add(self, block: Sequence[int]) -> None:
        """A block is on the disk. Raises `StepEnded`: the writer need not go on."""
        self._relay.require_running()
        with self._relay.changed:
            self._blocks.append(block)
            self._relay.changed.notify_all()

    def end(self) -> None:
        """The file is complete."""
        with self._relay.changed:
            self._is_complete = True
            self._relay.changed.notify_all()

    def give_up(self) -> None:
        """The writer has failed, as it will report; the file may be gone from now on."""
        self._is_given_up = True

    def require_kept(self) -> None:
        """Wait for the writer's failure if it has given the file up, and raise `StepEnded`."""
        if self._is_given_up:
            self._relay.wait(lambda: False)

    def hurry(self, patience_s: float) -> None:
        """From now on, who waits longer than this for a block gets `RowsLate`."""
        self._patience_s = patience_s

    def __iter__(self) -> Iterator[Sequence[int]]:
        for place in itertools.count():
            self._relay.wait(functools.partial(self._is_decided, place), self._patience_s)
            if place == len(self._blocks):
                return
            yield self._blocks[place]

    def _is_decided(self, place: int) -> bool:
        """Whether there is such a block, or will be none."""
        return self._is_complete or len(self._blocks) > place

    def __len__(self) -> int:
        return len(self._blocks)
