"""Finds models that would write one table and overwrite each other's rows.

`loader` refuses them by the ids of their connections, `mlops check --connect` by where these lead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass

from mlops_plugin.config.schema import ModelConfig


@dataclass(frozen=True)
class SinkPlace:
    """The database of a sink, and the schema of a table that names none ('': unknown)."""

    database: Hashable
    schema: str = ""


def _by_id(model: ModelConfig) -> SinkPlace:
    return SinkPlace(model.sink.connection)


def find_sharing(
    models: Iterable[ModelConfig], place_of: Callable[[ModelConfig], SinkPlace] = _by_id
) -> Iterator[tuple[ModelConfig, list[ModelConfig]]]:
    """Each model with the others that write its table, unless all of them only append to it."""
    by_name: dict[str, list[ModelConfig]] = {}
    for model in models:
        by_name.setdefault(_table_parts(model)[1], []).append(model)
    for namesakes in by_name.values():
        if len(namesakes) == 1:
            continue
        places = {model.name: place_of(model) for model in namesakes}
        for model in namesakes:
            sharing = [
                other
                for other in namesakes
                if other is not model
                and places[model.name].database == places[other.name].database
                and _is_one_schema(*(_schema(one, places[one.name]) for one in (model, other)))
            ]
            modes = {other.sink.mode for other in (model, *sharing)}
            if sharing and modes != {"append"}:
                yield model, sharing


def may_share_table(model: ModelConfig, texts: Iterable[str]) -> bool:
    """Whether another model, by the look of the files' texts, could write the same table."""
    name = re.escape(_table_parts(model)[1])
    written = re.compile(rf"table[\"']?\s*:[^\n]*\b{name}\b", re.IGNORECASE)
    return sum(len(written.findall(text)) for text in texts) > 1


def _table_parts(model: ModelConfig) -> tuple[str, str]:
    """Schema (empty if none is named) and table, without case and quotes.

    Without case, because the engines disagree whether it matters, and overwriting is not undone.
    """
    schema, _, table = model.sink.table.replace('"', "").casefold().rpartition(".")
    return schema, table


def _schema(model: ModelConfig, place: SinkPlace) -> str:
    return _table_parts(model)[0] or place.schema.casefold()


def _is_one_schema(one: str, other: str) -> bool:
    return one == other or not one or not other
