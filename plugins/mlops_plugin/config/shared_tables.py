"""Finds models that would write one table and overwrite each other's rows; `loader` refuses them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mlops_plugin.config.schema import ModelConfig


def find_sharing(models: Iterable[ModelConfig]) -> Iterator[tuple[ModelConfig, list[ModelConfig]]]:
    """Each model with the others that write its table, unless all of them only append to it."""
    by_name: dict[str, list[ModelConfig]] = {}
    for model in models:
        by_name.setdefault(_table_parts(model)[1], []).append(model)
    for namesakes in by_name.values():
        for model in namesakes:
            sharing = [other for other in namesakes if other is not model and _share_a_table(model, other)]
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


def _share_a_table(one: ModelConfig, other: ModelConfig) -> bool:
    (schema, table), (other_schema, other_table) = _table_parts(one), _table_parts(other)
    is_same_schema = schema == other_schema or not schema or not other_schema
    return one.sink.connection == other.sink.connection and table == other_table and is_same_schema
