"""Records the dispatches of concurrent requests in one transaction: a commit to disk takes longest of all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from mlops_plugin.events.store import EventStore

_MOST_TOGETHER = 64

Result = TypeVar("Result")


@dataclass
class _Write:
    """What one thread wants written. `leads`: woken up to write for all that wait, not because it is done."""

    doing: str
    work: Callable[[sa.Connection], Any]
    repeats_lost_commit: bool
    woken: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    result: Any = None
    error: BaseException | None = None


class GroupCommit(EventStore):
    """A store whose writes wait for a transaction that is under way, and then share the next one.

    Nobody waits for others to come: a write that is alone is committed at once.
    """

    def __init__(self, store: EventStore) -> None:
        super().__init__(store.address)
        self._store = store
        self._lock = threading.Lock()
        self._waiting: list[_Write] = []
        self._is_led = False
        self.commits = 0

    def writes_to(self, store: EventStore) -> bool:
        """Whether it shares the transactions of this store."""
        return self._store is store

    def write(
        self, doing: str, work: Callable[[sa.Connection], Result], *, repeats_lost_commit: bool = False
    ) -> Result:
        mine = _Write(doing, work, repeats_lost_commit)
        with self._lock:
            mine.leads, self._is_led = not self._is_led, True
            self._waiting.append(mine)
        if not mine.leads:
            mine.woken.wait()
        if mine.leads:
            self._lead()
        if mine.error is not None:
            raise mine.error
        result: Result = mine.result
        return result

    def _lead(self) -> None:
        """Write for all that wait, this thread's own included, and hand over to one who came meanwhile."""
        with self._lock:
            together, self._waiting = self._waiting[:_MOST_TOGETHER], self._waiting[_MOST_TOGETHER:]
        try:
            self._commit(together)
        finally:
            with self._lock:
                self._is_led = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].leads = True
                    self._waiting[0].woken.set()
            for one in together:
                one.leads = False
                one.woken.set()

    def _commit(self, together: list[_Write]) -> None:
        if len(together) > 1 and self._commit_in_one(together):
            return
        for one in together:
            try:
                one.result = self._alone(one)
            except BaseException as error:  # noqa: BLE001 -- raised in the thread that wrote
                one.error = error

    def _commit_in_one(self, together: list[_Write]) -> bool:
        """Whether all could be written together; each that could not be is tried alone, and hears why."""
        if any(one.repeats_lost_commit for one in together):
            return False
        self.commits += 1
        try:
            results = self._store.write(
                together[0].doing, lambda connection: [one.work(connection) for one in together]
            )
        except Exception:  # noqa: BLE001 -- see above
            return False
        for one, result in zip(together, results, strict=True):
            one.result = result
        return True

    def _alone(self, one: _Write) -> Any:
        self.commits += 1
        return self._store.write(one.doing, one.work, repeats_lost_commit=one.repeats_lost_commit)
