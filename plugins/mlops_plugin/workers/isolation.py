"""Loads the model of a step where `model.isolation` says: into a confined process of its own, or here.

`infer`, `mlops dispatch`, `mlops check` and `mlops baseline` ask this module, so that what a file runs when
it is loaded runs without the task's connections and keys.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mlops_plugin.formats.registry.registered_models import RegisteredModels
from mlops_plugin.workers.process import ModelProcess
from mlops_plugin.workers.process_limits import StepLimits

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.formats.runtime import Runtime

_log = logging.getLogger(__name__)


class StepModels:
    """The models of some steps; close it to end their processes.

    `must_be_confined`: refuse a process that the kernel cannot confine in every way.
    """

    def __init__(self, *, must_be_confined: bool) -> None:
        self._must_be_confined = must_be_confined
        self._processes: dict[str, ModelProcess] = {}
        self._registered = RegisteredModels()

    def load(self, model: ModelConfig) -> Runtime:
        """The model, loaded, its golden rows not yet asked; in the process of an earlier call if that lives.

        Raises what loading raises, and `ServingError` if its process ends.
        """
        model = self._registered.at_hand(model)
        if not model.model.is_isolated:
            from mlops_plugin.formats.runtime import load_unproven

            runtime, _ = load_unproven(model.model, features=model.features)
            return runtime
        limits = StepLimits.from_now(model, must_be_confined=self._must_be_confined)
        before = self._processes.get(model.name)
        if before is not None and not before.is_ended:
            before.limits = limits
            return before
        process = ModelProcess(model, limits, lambda line: _log.info("%s prints: %s", model.name, line))
        self._processes[model.name] = process  # from here on `kill` finds it
        process.load()
        if not process.missing_confinement:
            _log.info("%s runs in a process without %s", model.name, ", ".join(process.confinement))
        return process

    def kill(self) -> None:
        """Kill their processes, whatever those are doing; from any thread."""
        for process in [*self._processes.values()]:
            process.kill()

    def close(self) -> None:
        """End their processes, once nobody uses them."""
        for process in [*self._processes.values()]:
            process.end()
        self._processes.clear()
