"""Brings the environments of a configuration up to date: `mlops environments sync`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.connections import airflow_home
from mlops_plugin.environments.building import Tell, build, remove_unused
from mlops_plugin.environments.location import FOLDER, Environment
from mlops_plugin.errors import EnvironmentUnusable


def sync(models: Iterable[ModelConfig], tell: Tell, wheels: Path | None, *, are_all: bool) -> bool:
    """Build what these models lack; returns whether each has its environment now.

    `are_all`: these are all models that there are, so what none of them uses is removed. One environment that
    cannot be built keeps no other from it, but then nothing is removed.
    """
    if wheels is not None and not wheels.is_dir():
        raise EnvironmentUnusable(f"--wheels: '{wheels}' is no folder; name one with wheels")
    used, is_whole = [], True
    for model in models:
        try:
            environment = Environment.of(model)
            if environment is None:
                continue
            used.append(environment)
            if not build(environment, tell, wheels):
                tell(f"models.{model.name}: {environment.path} is up to date")
        except EnvironmentUnusable as error:
            tell(str(error))
            is_whole = False
    if are_all and is_whole:
        remove_unused(used, airflow_home() / FOLDER, tell)
    if not used and is_whole:
        tell("no model has an environment of its own")
    return is_whole
