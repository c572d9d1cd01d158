"""Finds schedules on assets that nothing updates, as far as the configuration alone can tell."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mlops_plugin.config.complaints import suggest
from mlops_plugin.config.schedules import AssetSchedule
from mlops_plugin.config.schema import ModelConfig

_OF_MODEL = ".predictions"


def foreign_assets(model: ModelConfig) -> list[str]:
    """The assets of its schedule that are no model's predictions."""
    names = model.schedule.names if isinstance(model.schedule, AssetSchedule) else ()
    return [name for name in names if not name.endswith(_OF_MODEL)]


def find_unfed(model: ModelConfig, known: Collection[str]) -> Iterator[str]:
    """A message for each asset named as a model's predictions are, if no model of this name is known."""
    for asset in model.schedule.names if isinstance(model.schedule, AssetSchedule) else ():
        producer = asset.removesuffix(_OF_MODEL)
        if producer != asset and producer not in known:
            yield (
                f"no model updates the asset '{asset}', so this one would never run: there is no model "
                f"'{producer}'; {suggest(producer, known) or 'name one of ' + ', '.join(sorted(known))}"
            ).rstrip()
