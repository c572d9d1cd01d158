"""Finds schedules on assets that nothing would ever update, as far as the configuration alone can tell."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from mlops_plugin.config.complaints import suggest
from mlops_plugin.config.schedules import AssetSchedule
from mlops_plugin.config.schema import ModelConfig

_OF_MODEL = ".predictions"


def foreign_assets(model: ModelConfig) -> list[str]:
    """The assets of its schedule that are no model's predictions."""
    return [name for name in _awaited(model) if not name.endswith(_OF_MODEL)]


def find_unfed(model: ModelConfig, known: Collection[str]) -> Iterator[str]:
    """A message for each asset named as a model's predictions are, if no model of this name is known."""
    for asset in _awaited(model):
        producer = asset.removesuffix(_OF_MODEL)
        if producer != asset and producer not in known:
            yield (
                f"no model updates the asset '{asset}', so this one would never run: there is no model "
                f"'{producer}'; {suggest(producer, known) or 'name one of ' + ', '.join(sorted(known))}"
            ).rstrip()


def find_circle(model: ModelConfig, models: Mapping[str, ModelConfig]) -> str | None:
    """A message if the model waits, over others or not, for its own predictions; by the shortest such way."""
    ways = [[model.name]]
    seen: set[str] = set()
    for way in ways:  # grows while it is walked
        producers = [asset.removesuffix(_OF_MODEL) for asset in _awaited(models[way[-1]])]
        if model.name in producers:
            others = " -> ".join([*way, model.name])
            return (
                f"models wait for each other's predictions ({others}): none of them would start, and once "
                "one is started by hand they never stop; give one of them a time"
            )
        found = [name for name in producers if name in models and name not in seen]
        seen.update(found)
        ways += [[*way, name] for name in found]
    return None


def _awaited(model: ModelConfig) -> tuple[str, ...]:
    return model.schedule.names if isinstance(model.schedule, AssetSchedule) else ()
