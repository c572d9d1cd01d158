"""What all views of one API server share: the configuration as it stands, and the event store."""

from __future__ import annotations

import atexit
import math
import threading
import time
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from mlops_plugin.config.included_files import Stamp, take_stamp
from mlops_plugin.config.loader import LoadedConfig, load_config
from mlops_plugin.events.store import EventStore
from mlops_plugin.monitoring.watch import Watch
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.serving.case_queries import CaseQueries
from mlops_plugin.serving.last_predictions import LastPredictions
from mlops_plugin.web.models.accuracy import Accuracies
from mlops_plugin.workers.pool import ModelPool

_RECORDED_FOR_S = 10.0  # how long the list of models that have dispatches is used before it is read again


class Site:
    """Made once for each app; safe to use from the threads that serve requests."""

    def __init__(self, config_file: Path) -> None:
        self._config_file = config_file
        self.watch = Watch()
        self.case_queries = CaseQueries()
        self.last_predictions = LastPredictions()
        self.accuracies = Accuracies()
        self._lock = threading.Lock()
        self._loaded: LoadedConfig | None = None
        self._stamp: Stamp | None = None
        self._store: EventStore | None = None
        self._store_of: Deployment | None = None
        self._pool: ModelPool | None = None
        self._recorded: tuple[list[str], float] = ([], -math.inf)

    def loaded(self) -> LoadedConfig:
        """The configuration, read again when a file has changed; raises `ConfigError` if it is invalid."""
        with self._lock:
            return self._reload()

    def deployment(self) -> Deployment:
        """The deployment that the configuration describes."""
        config = self.loaded().config
        return Deployment.of_airflow(config.events, config.staging)

    def event_store(self) -> EventStore:
        """The event store, with its connections kept open between requests; not for callers to close."""
        deployment = self.deployment()
        with self._lock:
            if self._store is None or deployment != self._store_of:
                if self._store is not None:
                    self._store.close()
                self._store, self._store_of = deployment.event_store(), deployment
            return self._store

    def known_models(self) -> list[str]:
        """Every model of the configuration, and others that had dispatches some seconds ago."""
        loaded, store = self.loaded(), self.event_store()
        with self._lock:
            recorded, read_at = self._recorded
            is_old = time.monotonic() - read_at > _RECORDED_FOR_S
        if is_old:
            recorded = store.models()
            with self._lock:
                self._recorded = recorded, time.monotonic()
        return list(dict.fromkeys([*loaded.config.models, *loaded.broken, *recorded]))

    def model_pool(self) -> ModelPool:
        """The Showroom's model processes; they end with this process."""
        limits = self.loaded().config.serving
        with self._lock:
            if self._pool is None or self._pool.limits != limits:
                if self._pool is not None:
                    self._pool.close()
                self._pool = ModelPool(limits)
                atexit.register(self._pool.close)
            return self._pool

    def _reload(self) -> LoadedConfig:
        patterns = self._loaded.config.include if self._loaded else ()
        stamp = take_stamp(self._config_file, patterns)
        is_missing = stamp[0] is None  # `load_config` says what is wrong with it
        if self._loaded is None or is_missing or stamp != self._stamp:
            self._loaded = load_config(self._config_file)
            # Taken before reading. With other patterns it says nothing about the files that were read.
            self._stamp = stamp if self._loaded.config.include == patterns else None
        return self._loaded


async def site_of_request(request: Request) -> Site:
    """Dependency: what the app of this request shares."""
    site: Site = request.app.state.site
    return site


SiteDep = Annotated[Site, Depends(site_of_request)]
