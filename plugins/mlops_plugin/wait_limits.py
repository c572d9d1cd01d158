"""How long anything is waited for: the one place that states limits; who opens a connection hands them down.

Each limit is for one wait. A server that answers slowly but within a limit is never given up.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

# Statements of a model without `task_timeout`.
_WITHOUT_TASK_TIMEOUT = timedelta(days=1)


@dataclass(frozen=True)
class StoreLimits:
    """Waits for the event store, in seconds: its transactions are short, whatever a model does.

    connect: until the server has let us in. ping: whether a connection from the pool is alive. answer: one
    statement or commit. lock: another transaction's row; tried `store._ATTEMPTS` times. idle: after which the
    server itself ends a session of ours that holds locks and asks for nothing. record: for a step to record
    that it has failed, whatever the store does.
    """

    connect_s: float = 10
    ping_s: float = 5
    answer_s: float = 20
    lock_s: float = 10
    idle_s: float = 15
    record_s: float = 10

    def of_upgrade(self) -> StoreLimits:
        """These limits, but a statement may rewrite a large table, and another upgrade may be under way."""
        return replace(self, answer_s=3600, lock_s=600, idle_s=600)


@dataclass(frozen=True)
class RegistryLimits:
    """Waits for a model registry, in seconds.

    connect: until the server has let us in. answer: a whole answer in JSON, and each piece of a file.
    download: a whole file.
    """

    connect_s: float = 10
    answer_s: float = 30
    download_s: float = 1800


@dataclass(frozen=True)
class Limits:
    """Waits for databases that hold rows, in seconds.

    connect: until the server has let us in. statement: a query or statement, and each batch of its rows.
    commit: also a rollback. lock: for another dispatch that writes the same table. idle: after which the
    server itself ends a session of ours that holds a table's lock and asks for nothing.
    """

    connect_s: float = 10
    statement_s: float = 30
    commit_s: float = 60
    lock_s: float = 600
    idle_s: float = 60
    store: StoreLimits = field(default_factory=StoreLimits)
    statement_is_task: bool = False  # statement_s is the model's task_timeout

    @property
    def abandoned_s(self) -> float:
        """For drivers with limits of their own: longer than each wait. Locks are asked for in turns."""
        return max(self.statement_s, self.commit_s) + self.connect_s

    def of_dispatch(self, task_timeout: timedelta | None) -> Limits:
        """These limits, but a statement may take as long as a task of the model."""
        longest = _WITHOUT_TASK_TIMEOUT if task_timeout is None else task_timeout
        return replace(self, statement_s=longest.total_seconds(), statement_is_task=True)

    def of_probe(self, timeout_s: float) -> Limits:
        """These limits, and none longer than a probe may take."""
        store = replace(
            self.store,
            connect_s=min(self.store.connect_s, timeout_s),
            answer_s=min(self.store.answer_s, timeout_s),
        )
        return replace(
            self,
            connect_s=min(self.connect_s, timeout_s),
            statement_s=min(self.statement_s, timeout_s),
            commit_s=min(self.commit_s, timeout_s),
            store=store,
        )
