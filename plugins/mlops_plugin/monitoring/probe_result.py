"""The result of a probe, step by step: written by its thread, read by the threads that wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from mlops_plugin.errors import DatabaseError, MlopsError
from mlops_plugin.masking import masked

State = Literal["up", "partly", "down"]
Outcome = Literal["ok", "no address", "failed", "refused", "timed out", "unreachable"]


@dataclass(frozen=True)
class Step:
    """One stage of a probe, and how it ended."""

    name: str  # e.g. name resolution, IPv6, connecting, query
    outcome: Outcome
    seconds: float
    message: str | None = None  # the message of the system or the driver
    address: str | None = None  # one of several addresses; one that works is enough

    def __str__(self) -> str:
        step = f"{self.name} {self.address}" if self.address else self.name
        return f"{step}: {self.outcome}" + (f": {self.message}" if self.message else "")


@dataclass(frozen=True)
class ProbeResult:
    """What one probe of one target found out."""

    target_id: str
    at: datetime  # when this was so: the end of the probe, or the moment it was called overdue; aware UTC
    steps: tuple[Step, ...] = field(default=())

    @property
    def state(self) -> State:
        """`partly`: some addresses work and others do not."""
        stages = [step for step in self.steps if step.address is None and step.outcome != "no address"]
        ways = [step for step in self.steps if step.address is not None]
        if not self.steps or any(step.outcome != "ok" for step in stages):
            return "down"
        working = sum(step.outcome == "ok" for step in ways)
        if ways and not working:
            return "down"
        return "up" if working == len(ways) else "partly"

    @property
    def seconds(self) -> float | None:
        """How long connecting takes by the fastest address; None if none works."""
        if self.state == "down":
            return None
        ways = [step.seconds for step in self.steps if step.address and step.outcome == "ok"]
        return sum(step.seconds for step in self.steps if not step.address) + min(ways, default=0.0)

    @property
    def error(self) -> str | None:
        """The steps that failed, on one line; None if all succeeded."""
        flaws = [str(step) for step in self.steps if step.outcome not in ("ok", "no address")]
        return "; ".join(flaws) or None


class Notes:
    """The steps of a running probe. A step without an end counts as timed out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: list[Step] = []
        self._open: list[tuple[str, str | None, float]] = []

    def begin(self, name: str, address: str | None = None) -> None:
        with self._lock:
            self._open.append((name, address, time.monotonic()))

    def end(
        self, name: str, outcome: Outcome, message: str | None = None, *, address: str | None = None
    ) -> None:
        with self._lock:
            found = next(step for step in self._open if step[:2] == (name, address))
            self._open.remove(found)
            message = message and masked(message)
            self._ended.append(Step(name, outcome, time.monotonic() - found[2], message, address))

    def add(self, step: Step) -> None:
        with self._lock:
            self._ended.append(step)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step that ends with the block; an error is its outcome, and raised again."""
        self.begin(name)
        try:
            yield
        except DatabaseError as error:
            self.end(name, "failed", error.driver_says)
            raise
        except MlopsError as error:
            self.end(name, "failed", str(error))
            raise
        except Exception as error:
            # Not its text: it is not one of ours, and may quote a secret.
            self.end(name, "failed", f"{type(error).__name__}; see the log of this process")
            raise
        self.end(name, "ok")

    def steps(self) -> tuple[Step, ...]:
        with self._lock:
            now = time.monotonic()
            waiting = [
                Step(name, "timed out", now - began, address=address) for name, address, began in self._open
            ]
            return (*self._ended, *waiting)
