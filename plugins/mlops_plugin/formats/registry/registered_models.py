"""Models of registries as files at hand: whoever loads models asks here first, for all others pass "
"unchanged."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig, ModelConfig
    from mlops_plugin.formats.registry.model_version import ModelVersion
    from mlops_plugin.formats.registry.registry import Registry


class RegisteredModels:
    """Remembers which version each URI stands for, for `fresh_s` seconds; without end by default."""

    def __init__(self, registry: Registry | None = None, fresh_s: float = math.inf) -> None:
        self._given = registry
        self._fresh_s = fresh_s
        self._found: dict[tuple[str | None, str], tuple[float, ModelVersion]] = {}

    def pin(self, artifact: ArtifactConfig, known: ModelVersion | None = None) -> ModelVersion:
        """Take this version for the artifact's, or else the one that its registry names.

        Raises `RegistryError`.
        """
        key, now = (artifact.connection, artifact.uri), time.monotonic()
        found = self._found.get(key)
        if known is None and found is not None and now - found[0] < self._fresh_s:
            return found[1]
        version = known or self._registry.find(artifact)
        self._found[key] = (now, version)
        return version

    def at_hand(self, model: ModelConfig) -> ModelConfig:
        """The model with a path in place of a registry's URI; its files are downloaded if need be."""
        if not model.model.is_registered:
            return model
        artifact = self.of_version(model).model
        located = self._registry.located(artifact, self.pin(artifact))
        return model.model_copy(update={"model": located})

    def of_version(self, model: ModelConfig) -> ModelConfig:
        """The model with the signature of the version that it stands for; nothing is downloaded."""
        artifact = model.model
        if not artifact.is_registered or artifact.has_version:
            return model
        return of_version(model, self.pin(artifact))

    @property
    def _registry(self) -> Registry:
        if self._given is None:
            from mlops_plugin.formats.registry.registry import Registry  # most models need none

            self._given = Registry()
        return self._given


def of_version(model: ModelConfig, version: ModelVersion | None) -> ModelConfig:
    """The model as this version, which has a signature of its own; None: it is in no registry."""
    if version is None:
        return model
    return model.model_copy(update={"model": model.model.of_version(version.name, version.version)})
