"""How well a model does, in one word: whether it predicts as planned, rather than what it does now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlops_plugin.events.records import State
from mlops_plugin.monitoring.model_state import ModelState, ModelWord
from mlops_plugin.sentences import Sentence

HealthWord = Literal["healthy", "late", "failing", "broken", "paused", "new", "unknown"]

_WORDS: Mapping[ModelWord, HealthWord] = {
    "ok": "healthy",
    "late": "late",
    "missed": "late",
    "overrun": "late",
    "failed": "failing",
    "broken configuration": "broken",
    "not in Airflow": "broken",
    "paused": "paused",
    "waiting": "new",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Health:
    """One word, and why: a `Sentence`, or the text of an error."""

    word: HealthWord
    why: str


def health_of(state: ModelState, before: State | None, *, is_read: bool = True) -> Health:
    """The health of a model in a state; `before` is how its newest dispatch ended that has ended.

    A model that is running or queued is as it was before, which only an event store that was read can say.
    """
    if state.word not in ("running", "waiting"):
        return Health(_WORDS[state.word], state.why)
    if before == "failed":
        return Health("failing", Sentence("%(why)s; the dispatch before it failed", why=state.why))
    if before == "succeeded":
        return Health("healthy", Sentence("%(why)s; the dispatch before it succeeded", why=state.why))
    return Health("new" if is_read else "unknown", state.why)
