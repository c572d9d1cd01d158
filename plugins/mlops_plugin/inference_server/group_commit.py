"""Records the dispatches of concurrent requests in one transaction: a commit to disk takes longest of all."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from mlops_plugin.events.store import EventStore
from mlops_plugin.events.whole_dispatches import WholeDispatch, WholeDispatches

_MOST_TOGETHER = 64


@dataclass
class _Write:
    """What one thread wants recorded. `leads`: it is woken up to record for all that wait."""

    dispatches: Sequence[WholeDispatch]
    leads: bool
    woken: threading.Event | None = None  # of one who waits
    error: BaseException | None = None

    def wake(self) -> None:
        if self.woken is not None:
            self.woken.set()


class GroupCommit:
    """Dispatches wait for a transaction that is under way, and then share the next one.

    Nobody waits for others to come: who is alone is committed at once.
    """

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self._dispatches = WholeDispatches(store)
        self._lock = threading.Lock()
        self._waiting: list[_Write] = []
        self._is_led = False
        self.commits = 0

    def append(self, dispatches: Sequence[WholeDispatch]) -> None:
        """Record all of them, or raise `EventStoreError` and record none."""
        with self._lock:
            mine = _Write(dispatches, leads=not self._is_led)
            self._is_led = True
            self._waiting.append(mine)
            if not mine.leads:
                mine.woken = threading.Event()
        if mine.woken is not None:
            mine.woken.wait()
        if mine.leads:
            self._lead()
        if mine.error is not None:
            raise mine.error

    def _lead(self) -> None:
        """Record for all that wait, this thread's own included, and hand over to one who came meanwhile."""
        with self._lock:
            together, self._waiting = self._waiting[:_MOST_TOGETHER], self._waiting[_MOST_TOGETHER:]
        try:
            self._commit(together)
        finally:
            with self._lock:
                self._is_led = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].leads = True
                    self._waiting[0].wake()
            for one in together:
                one.leads = False
                one.wake()

    def _commit(self, together: Sequence[_Write]) -> None:
        """Commit all in one; each that could not be is tried alone, and hears why."""
        self.commits += 1
        try:
            self._dispatches.append([dispatch for one in together for dispatch in one.dispatches])
        except BaseException as error:  # noqa: BLE001 -- raised in the thread that wanted it
            if len(together) == 1:
                together[0].error = error
                return
            for one in together:
                self._commit([one])
