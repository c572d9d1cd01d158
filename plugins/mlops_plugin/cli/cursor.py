"""`mlops cursor`: shows the models' watermarks and sets them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlops_plugin.cli.dispatch import terminal_user
from mlops_plugin.events.marks import mark_history
from mlops_plugin.orchestration.rendering import render
from mlops_plugin.pipeline.reading.mark_keeping import (
    cursor_of,
    mark_words,
    newest_mark_words,
    set_by_hand,
)

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.pipeline.deployment import Deployment


def show_marks(models: Sequence[ModelConfig], deployment: Deployment, *, history: int = 1) -> None:
    """Print each model's mark, and before it up to `history` - 1 older ones, oldest first."""
    for model in models:
        cursor_of(model)
    with deployment.event_store() as store:
        for model in models:
            for mark in reversed(mark_history(store, model.name, limit=history)[1:]):
                print(f"{model.name}: before: {mark_words(model, mark)}")
            print(f"{model.name}: {newest_mark_words(model, store)}")
    if not models:
        print("no model has a source.cursor")


def set_mark_in_terminal(model: ModelConfig, deployment: Deployment, value: str | None) -> None:
    """Set the mark to `value`, or with None back to `initial`, and print it."""
    now = datetime.now(UTC)
    mark = set_by_hand(
        model,
        deployment,
        value,
        render=lambda model: render(model.source.query, model, moment=now),
        user=terminal_user(),
    )
    print(f"{model.name}: {mark_words(model, mark)}")
