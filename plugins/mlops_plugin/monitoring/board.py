"""The newest results of all probes of one process, shared by all who ask for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mlops_plugin.errors import MlopsError
from mlops_plugin.monitoring.probe_result import Notes, ProbeResult, Step
from mlops_plugin.monitoring.targets import Target

ANSWER = "answer"  # the step of a probe that did not keep to its timeout
_GRACE_S = 1.0  # a probe that keeps to its timeout by itself ends a little after it


class Attempt:
    """One probe, in a thread of its own; nobody waits for it longer than its timeout.

    A driver that hangs cannot be stopped: its thread stays until the driver returns or the process ends.
    """

    def __init__(self, target: Target, timeout_s: float) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._notes = Notes()
        self._began = time.monotonic()
        self._result: ProbeResult | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, name=f"probe of {target.id}", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """Whether its thread is through; an overdue one may not be."""
        return self._ended.is_set()

    def result(self) -> ProbeResult | None:
        """What it found; None while it is running within its timeout."""
        if self._result is not None:
            return self._result
        if time.monotonic() < self._began + self._timeout_s:
            return None
        return self._so_far()

    def wait(self, until: float) -> None:
        """Wait for its end, its timeout or a time of the monotonic clock, whichever is first."""
        self._ended.wait(max(0.0, min(until, self._began + self._timeout_s) - time.monotonic()))

    def _run(self) -> None:
        try:
            self.target.probe(self._timeout_s, self._notes)
        except MlopsError:
            pass  # the notes have it
        finally:
            self._result = self._final_result()
            self._ended.set()

    def _final_result(self) -> ProbeResult:
        result = self._so_far()
        seconds = time.monotonic() - self._began
        if seconds <= self._timeout_s + _GRACE_S:
            return result
        late = Step(ANSWER, "timed out", seconds, f"it came after {seconds:.0f} s")
        return replace(result, steps=(*result.steps, late))

    def _so_far(self) -> ProbeResult:
        return ProbeResult(self.target.id, datetime.now(UTC), self._notes.steps())


@dataclass(frozen=True)
class Reading:
    """What is known of a target now."""

    target: Target
    result: ProbeResult | None  # None: not known yet
    is_probing: bool


@dataclass
class _Entry:
    attempt: Attempt | None = None
    last: ProbeResult | None = None
    asked_at: float = 0.0


class ProbeBoard:
    """Probes targets on request unless their results are recent; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    def look(
        self, targets: Iterable[Target], *, refresh_s: float, timeout_s: float, wait_s: float = 0.0
    ) -> list[Reading]:
        """The newest results, in the order of `targets`; those older than `refresh_s` are renewed meanwhile.

        Waits at most `wait_s` for probes under way. Targets that are not asked for are forgotten.
        """
        wanted = list(targets)
        with self._lock:
            self._entries = {target.id: self._entries.get(target.id, _Entry()) for target in wanted}
            for target in wanted:
                _renew(self._entries[target.id], target, refresh_s, timeout_s)
            waiting = [entry.attempt for entry in self._entries.values() if entry.attempt]
        until = time.monotonic() + wait_s
        for attempt in waiting:
            attempt.wait(until)
        with self._lock:
            return [_read(self._entries.get(target.id, _Entry()), target) for target in wanted]


def probe_all(targets: Iterable[Target], *, timeout_s: float) -> list[Reading]:
    """Probe each target once, side by side; returns within the timeout, or little more."""
    board = ProbeBoard()
    return board.look(targets, refresh_s=timeout_s, timeout_s=timeout_s, wait_s=timeout_s)


def _renew(entry: _Entry, target: Target, refresh_s: float, timeout_s: float) -> None:
    _read(entry, target)
    # No second probe beside one that hangs: threads would pile up.
    if entry.attempt is None and (entry.last is None or time.monotonic() - entry.asked_at >= refresh_s):
        entry.asked_at = time.monotonic()
        entry.attempt = Attempt(target, timeout_s)


def _read(entry: _Entry, target: Target) -> Reading:
    if entry.attempt is not None and (result := entry.attempt.result()):
        if entry.attempt.has_ended:  # maybe just now: its last word counts
            result, entry.attempt = entry.attempt.result(), None
        entry.last = result
    return Reading(target, entry.last, entry.attempt is not None)
