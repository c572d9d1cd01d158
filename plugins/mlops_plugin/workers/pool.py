"""Keeps loaded models, each in its process, until its artifact or its configuration changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING, Any, Literal

from mlops_plugin.environments.location import environment_key
from mlops_plugin.errors import MlopsError, ServingBusy, ServingError, SignatureError
from mlops_plugin.formats.artifact import sha256_of
from mlops_plugin.formats.registry.registered_models import RegisteredModels
from mlops_plugin.formats.signature.signature import read_content
from mlops_plugin.workers.patience import Patience
from mlops_plugin.workers.process import ModelProcess
from mlops_plugin.workers.process_limits import ServingLimits

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig, ServingConfig
    from mlops_plugin.formats.registry.model_version import ModelVersion

# Requests wait in threads that the whole API server shares: models that hang must not take them all, and four
# of them must leave some for a fifth.
_MAX_REQUESTS = 20
_MAX_REQUESTS_OF_ONE = 4
# A request waits so long for others of the same model, unless it is loading.
_QUEUE_S = 5.0
_VERSION_FRESH_S = 10.0  # before a registry is asked again which version an alias stands for
_BUSY_FACTOR = 2  # so many times `serving.workers` may run while all are busy

LoadState = Literal["absent", "loading", "ready", "failed"]


@dataclass(frozen=True)
class Loading:
    """The state of a model's process. `error` is why the last start failed."""

    state: LoadState
    seconds: float | None = None  # loading: so far; ready: what it took
    memory_bytes: int | None = None
    error: str | None = None


@dataclass
class _Place:
    """One model's process; `lock` is held while it is started or used."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    slots: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(_MAX_REQUESTS_OF_ONE)
    )
    process: ModelProcess | None = None
    version: tuple[str, ...] = ()  # hashes of artifact, signature, configuration and environment
    used_at: float = 0.0
    loading_since: float | None = None
    error: str | None = None
    _hashed: tuple[ModelConfig, str] | None = None  # the configuration last seen, and its hash

    def config_hash(self, model: ModelConfig) -> str:
        """The configuration's hash: it takes longer than a small model's answer."""
        if self._hashed is None or self._hashed[0] is not model:
            self._hashed = model, model.config_hash()
        return self._hashed[1]


class ModelPool:
    """`limits.workers` processes; a further model replaces the one unused for longest.

    If all of them are busy, as many again may be started; they end as soon as they are not.
    """

    def __init__(self, limits: ServingConfig) -> None:
        self.limits = limits
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()  # of the dictionary and of counting processes
        self._slots = threading.BoundedSemaphore(_MAX_REQUESTS)
        self._hashes: dict[str, tuple[Any, str]] = {}
        self._registered = RegisteredModels(fresh_s=_VERSION_FRESH_S)
        self._is_closed = False

    def find_version(self, model: ModelConfig) -> ModelVersion:
        """The version of a registered model, as it was a few seconds ago at the earliest."""
        return self._registered.pin(model.model)

    def of_version(self, model: ModelConfig) -> ModelConfig:
        """The model with the signature of that version."""
        return self._registered.of_version(model)

    def artifact_sha256(self, model: ModelConfig) -> str:
        """SHA-256 of the model as it is now; a local file is read again only if it changed."""
        model = self._registered.at_hand(model)
        return self._sha256(model.model.uri, lambda _: sha256_of(model.model))

    def signature_sha256(self, model: ModelConfig) -> str | None:
        """SHA-256 of the signature beside it as it is now, None if there is none."""
        uri = self.of_version(model).model.signature_uri
        return self._sha256(uri, _content_sha256) or None

    def baseline_sha256(self, model: ModelConfig) -> str | None:
        """SHA-256 of the baseline in its contract as it is now, None if there is none."""
        uri = None if model.input is None else model.input.baseline_uri(model.model.uri)
        if uri is None:
            return None
        try:
            return self._sha256(uri, _content_sha256) or None
        except SignatureError:
            return None  # whoever reads the contract hears what is wrong with its baseline

    def _sha256(self, uri: str, compute: Callable[[str], str]) -> str:
        stamp = _stamp(uri)
        known = self._hashes.get(uri)
        if stamp is not None and known is not None and known[0] == stamp:
            return known[1]
        sha256 = compute(uri)
        # A file that is written just now may change again within the clock's resolution.
        if stamp is not None and stamp == _stamp(uri) and time.time_ns() - stamp[0] > 2_000_000_000:
            self._hashes[uri] = (stamp, sha256)
        return sha256

    @contextlib.contextmanager
    def runtime(self, model: ModelConfig, patience: Patience | None = None) -> Iterator[ModelProcess]:
        """The model, loaded, for this caller alone. Raises what loading raises, or `ServingError`.

        `patience` is what to do if the model, its other callers, or its loading keep this caller waiting.
        """
        patience = patience or Patience()
        model = self._registered.at_hand(model)
        try:
            with self._admitted(model) as place, self._held(model, place, patience):
                process = self._loaded(model, place, patience)
                with process.used_with(patience):
                    yield process
        finally:
            self._end_surplus()

    @contextlib.contextmanager
    def _admitted(self, model: ModelConfig) -> Iterator[_Place]:
        """Count the request; raises `ServingBusy` if there are too many."""
        place = self._place(model.name)
        if not place.slots.acquire(blocking=False):
            raise ServingBusy(
                f"models.{model.name}: the model is busy with {_MAX_REQUESTS_OF_ONE} requests already; try "
                "again in a moment"
            )
        try:
            if not self._slots.acquire(blocking=False):
                raise ServingBusy(
                    f"models.{model.name}: models are busy with {_MAX_REQUESTS} requests already; "
                    "try again in a moment"
                )
            try:
                yield place
            finally:
                self._slots.release()
        finally:
            place.slots.release()

    @contextlib.contextmanager
    def _held(self, model: ModelConfig, place: _Place, patience: Patience) -> Iterator[None]:
        def acquire(seconds: float) -> bool:
            return place.lock.acquire(timeout=seconds)

        while not patience.wait(acquire, _QUEUE_S):
            if place.loading_since is None:
                raise ServingBusy(
                    f"models.{model.name}: the model is busy with other requests; try again later"
                )
        try:
            yield
        finally:
            place.used_at = time.monotonic()
            place.lock.release()

    def loading(self, model: ModelConfig) -> Loading:
        """The model's state, without waiting for anything."""
        place = self._places.get(model.name)
        if place is None:
            return Loading("absent")
        since, process = place.loading_since, place.process
        if since is not None:
            return Loading("loading", time.monotonic() - since)
        if process is not None and not process.is_ended:
            return Loading("ready", process.load_seconds, process.memory_bytes)
        return Loading("failed", error=place.error) if place.error else Loading("absent")

    def features(self, model: ModelConfig) -> tuple[str, ...] | None:
        """The columns that the model reads, if the configuration or a loaded process knows them."""
        place = self._places.get(model.name)
        process = place.process if place else None
        return model.features or (process.features if process else None)

    def close(self) -> None:
        """Kill all processes, whatever they are doing."""
        with self._lock:
            self._is_closed = True
            places, self._places = self._places, {}
        for place in places.values():
            if place.process is not None:
                place.process.kill()  # a caller that waits for its answer gets an error and releases the lock
                with place.lock:
                    if place.process is not None:  # nor did its caller end it meanwhile
                        place.process.end()

    def _place(self, name: str) -> _Place:
        self._require_open()
        place = self._places.get(name)
        if place is not None:
            return place
        with self._lock:
            return self._places.setdefault(name, _Place())

    def _require_open(self) -> None:
        if self._is_closed:
            raise ServingError("the Showroom is shutting down; try again in a moment")

    def _loaded(self, model: ModelConfig, place: _Place, patience: Patience) -> ModelProcess:
        self._require_open()  # it may have been closed while this caller waited
        version = (
            self.artifact_sha256(model),
            self.signature_sha256(model) or "",
            place.config_hash(model),
            environment_key(model) or "",
        )
        if place.process is not None and not place.process.is_ended and place.version == version:
            return place.process
        patience.lose()  # loading takes longer than a moment
        if place.process is not None and not place.process.is_ended:
            place.process.end()
        place.process = None
        place.error = None
        try:
            self._make_room(place)
            process = ModelProcess(model, ServingLimits(self.limits))
            process.load()
            place.process = process
            if self._is_closed:  # while it was loaded: nobody else ends it
                process.end()
                self._require_open()
        except MlopsError as error:
            place.error = str(error)
            raise
        finally:
            place.loading_since = None
        place.version = (place.process.artifact_sha256, *version[1:])
        return place.process

    def _make_room(self, asking: _Place) -> None:
        """Stop the models that were unused for longest until a process can be started."""
        most = _BUSY_FACTOR * self.limits.workers
        with self._lock:
            if self._shrink(self.limits.workers - 1, asking) >= most:
                raise ServingBusy(
                    f"all {most} model processes are busy; try again in a moment, or raise serving.workers"
                )
            asking.loading_since = time.monotonic()  # counts from here on

    def _end_surplus(self) -> None:
        """End processes that were started because all others were busy."""
        if len(self._places) <= self.limits.workers:
            return
        with self._lock:
            self._shrink(self.limits.workers, None)

    def _shrink(self, wanted: int, asking: _Place | None) -> int:
        """End idle processes, those unused for longest first, while there are more; returns how many run."""
        others = [place for place in self._places.values() if place is not asking]
        running = [place for place in others if place.loading_since is not None or _runs(place)]
        for place in sorted(running, key=lambda place: place.used_at):
            if len(running) <= wanted:
                break
            if place.lock.acquire(blocking=False):
                try:
                    if place.process is not None:
                        place.process.end()
                        place.process = None
                        running.remove(place)
                finally:
                    place.lock.release()
        return len(running)


def _content_sha256(uri: str) -> str:
    """SHA-256 of a small file; '' if there is none."""
    content = read_content(uri)
    return "" if content is None else hashlib.sha256(content).hexdigest()


def _runs(place: _Place) -> bool:
    return place.process is not None and not place.process.is_ended


_NOT_THERE = (0,)  # the stamp of a file that there is not: most models have no signature


def _stamp(uri: str) -> tuple[int, ...] | None:
    """What changes when a local file does, or one in a local folder; None for other storage."""
    if "://" in uri:
        return None
    try:
        status = os.stat(uri)  # noqa: PTH116 - asked for each request
    except FileNotFoundError:
        return _NOT_THERE
    except OSError:
        return None
    try:
        stamp = _stamp_of(status)
        if not S_ISDIR(status.st_mode):
            return stamp
        within = [_stamp_of(path.stat()) for path in Path(uri).rglob("*")]
        newest = max([stamp, *within])[0]
        return newest, hash(tuple(sorted(within))), len(within)
    except (OSError, RecursionError):
        return None  # reading it raises what is wrong


def _stamp_of(status: os.stat_result) -> tuple[int, ...]:
    # The first says of every change when it was made; the second may be set, as `cp -p` and images do.
    return status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino
