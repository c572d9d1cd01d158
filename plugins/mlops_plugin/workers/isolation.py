"""Loads the model of a step where `model.isolation` says: into a confined process of its own, or here.

`infer`, `mlops dispatch`, `mlops check` and `mlops baseline` ask this module, so that what a file runs when
it is loaded runs without the task's connections and keys.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

from mlops_plugin.formats.registry.registered_models import RegisteredModels
from mlops_plugin.interruptible import abandon
from mlops_plugin.workers.process import ModelProcess
from mlops_plugin.workers.process_limits import StepLimits

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.formats.runtime import Runtime

_Loaded = TypeVar("_Loaded")
_log = logging.getLogger(__name__)


class _Loading(Generic[_Loaded]):
    """A model that is loaded in a thread, here or in its process."""

    def __init__(self, load: Callable[[], _Loaded]) -> None:
        self._load = load
        self._outcome: Future[_Loaded] = Future()
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), daemon=True, name="load model")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome.set_result(self._load())
        except BaseException as error:  # noqa: BLE001 -- raised where the model is wanted
            self._outcome.set_exception(error)

    def end(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def abandon(self) -> None:
        """Nobody waits for it."""
        abandon(self._thread)

    def result(self) -> _Loaded:
        """Raises what loading has raised."""
        return self._outcome.result()


class StepModels:
    """The models of some steps; close it to end their processes.

    `must_be_confined`: refuse a process that the kernel cannot confine in every way.
    """

    def __init__(self, *, must_be_confined: bool) -> None:
        self._must_be_confined = must_be_confined
        self._processes: dict[str, ModelProcess] = {}
        self._loading: dict[str, _Loading[ModelProcess]] = {}
        self._loading_here: dict[str, _Loading[Runtime]] = {}
        self._registered = RegisteredModels()

    def load(self, model: ModelConfig) -> Runtime:
        """The model, loaded, its golden rows not yet asked; in the process of an earlier call if that lives.

        Raises what loading raises, and `ServingError` if its process ends.
        """
        model = self._registered.at_hand(model)
        if not model.model.is_isolated:
            return self._loaded_here(model)
        loading = self._loading.pop(model.name, None)
        before = self._processes.get(model.name)
        if loading is None and before is not None and not before.is_ended:
            before.limits = self._limits(model)
            return before
        if loading is None:
            process = self._new(model)
            process.load()
        else:
            process = loading.result()
            process.limits = self._limits(model)
        if not process.missing_confinement:
            _log.info("%s runs in a process without %s", model.name, ", ".join(process.confinement))
        return process

    def _loaded_here(self, model: ModelConfig) -> Runtime:
        loading = self._loading_here.get(model.name)
        if loading is None:
            return _load_here(model)
        try:
            return loading.result()
        finally:  # only now: `kill` must find it
            del self._loading_here[model.name]

    def of_version(self, model: ModelConfig) -> ModelConfig:
        """The model with the signature of the version in its registry that `load` takes."""
        return self._registered.of_version(model)

    def load_ahead(self, model: ModelConfig) -> None:
        """Begin to load a model that `load` is going to be asked for; raises nothing of it.

        Not one of a registry: the first step decides which version that is.
        """
        if model.model.is_registered:
            return
        if not model.model.is_isolated:
            self._loading_here[model.name] = _Loading(lambda: _load_here(model))
        elif model.name not in self._processes:
            process = self._new(model)
            self._loading[model.name] = _Loading(lambda: _loaded(process))

    def _new(self, model: ModelConfig) -> ModelProcess:
        process = ModelProcess(
            model, self._limits(model), lambda line: _log.info("%s prints: %s", model.name, line)
        )
        self._processes[model.name] = process  # from here on `kill` finds it
        return process

    def _limits(self, model: ModelConfig) -> StepLimits:
        return StepLimits.from_now(model, must_be_confined=self._must_be_confined)

    def kill(self) -> None:
        """Kill their processes, whatever those are doing; from any thread."""
        for process in [*self._processes.values()]:
            process.kill()
        for loading_here in [*self._loading_here.values()]:
            loading_here.abandon()

    def close(self) -> None:
        """End their processes, once nobody uses them."""
        if self._loading:
            self.kill()
        for loading in self._loading.values():
            loading.end()
        for loading_here in self._loading_here.values():
            loading_here.end()
        for process in [*self._processes.values()]:
            process.end()
        self._loading.clear()
        self._loading_here.clear()
        self._processes.clear()


def _load_here(model: ModelConfig) -> Runtime:
    from mlops_plugin.formats.runtime import load_unproven

    runtime, _ = load_unproven(model.model, features=model.features)
    return runtime


def _loaded(process: ModelProcess) -> ModelProcess:
    process.load()
    return process
