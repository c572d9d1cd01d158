"""Lets a few queries for cases run at a time: each holds a thread that Airflow's own requests need, too."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import ServingBusy
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.serving.cases import Cases, open_cases

# Airflow's API server has 40 threads for what is not asynchronous, its health check included. The requests of
# `workers.pool` and these together leave some.
MOST_REQUESTS = 14
_MOST_REQUESTS_OF_ONE = 6
_MOST_QUERIES_OF_ONE = 3
# Of these, so many may be asides, which no page waits for.
_MOST_ASIDES = 4
_MOST_ASIDES_OF_ONE = 2
_WAIT_S = 2.0


@dataclass
class _Door:
    """The queries of one model: so many may run, and a few more wait for a moment."""

    requests: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(_MOST_REQUESTS_OF_ONE)
    )
    queries: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(_MOST_QUERIES_OF_ONE)
    )
    asides: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(_MOST_ASIDES_OF_ONE)
    )


@dataclass
class CaseQueries:
    """The queries of one process."""

    _requests: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MOST_REQUESTS)
    )
    _asides: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(_MOST_ASIDES)
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _doors: dict[str, _Door] = field(default_factory=dict)  # by model

    @contextlib.contextmanager
    def open(self, model: ModelConfig, deployment: Deployment, *, is_aside: bool = False) -> Iterator[Cases]:
        """The model's cases, see `open_cases`. Raises `ServingBusy` if too many queries run already.

        Asides leave places to the others.
        """
        with self._lock:
            door = self._doors.setdefault(model.name, _Door())
        places = [(door.requests, 0.0), (self._requests, 0.0), (door.queries, _WAIT_S)]
        if is_aside:
            places = [(door.asides, 0.0), (self._asides, 0.0), *places]
        with contextlib.ExitStack() as held:
            for semaphore, wait_s in places:
                if not semaphore.acquire(timeout=wait_s):
                    raise ServingBusy(
                        f"models.{model.name}: too many queries for cases are running; try again in a "
                        "moment. If they are slow, set a faster query as showroom.cases"
                    )
                held.callback(semaphore.release)
            yield held.enter_context(open_cases(model, deployment))
