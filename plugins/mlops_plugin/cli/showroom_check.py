"""Compares what a model's `showroom:` names with the columns of its cases; `mlops check --connect` asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlops_plugin.config.complaints import suggest
from mlops_plugin.errors import MlopsError
from mlops_plugin.pipeline.inspection import Finding

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.pipeline.deployment import Deployment


def inspect_showroom(model: ModelConfig, deployment: Deployment) -> Iterator[Finding]:
    """Describe the cases and look for `truth` and `search` among their columns; nothing if none is named."""
    from mlops_plugin.serving.cases import open_cases

    showroom = model.showroom
    if not (showroom.cases or showroom.truth or showroom.search):
        return
    subject = f"models.{model.name}.showroom"
    tried = f"the cases on connection '{model.source.connection}'"
    try:
        with open_cases(model, deployment) as cases:
            columns = cases.columns
    except MlopsError as error:
        # Without a query of its own, `source` has the same problem.
        if showroom.cases:
            yield Finding(f"{subject}.cases", tried, str(error))
        return
    named = [("truth", showroom.truth), *(("search", column) for column in showroom.search)]
    missing = [(key, column) for key, column in named if column is not None and column not in columns]
    for key, column in missing:
        there = f"{suggest(column, columns)}the columns are {', '.join(columns)}"
        yield Finding(f"{subject}.{key}", tried, f"the cases have no column '{column}'; {there}")
    if not missing:
        yield Finding(subject, tried)
