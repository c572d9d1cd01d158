"""Health is one word: whether a model predicts as planned, whatever it does at this moment."""

from __future__ import annotations

from typing import get_args

import pytest

from mlops_plugin.events.records import State
from mlops_plugin.monitoring.health import HealthWord, health_of
from mlops_plugin.monitoring.model_state import ModelState, ModelWord


@pytest.mark.parametrize(
    ("state", "before", "word"),
    [
        ("ok", "succeeded", "healthy"),
        ("failed", "failed", "failing"),
        ("late", "succeeded", "late"),
        ("missed", "failed", "late"),
        ("overrun", "succeeded", "late"),
        ("not in Airflow", "succeeded", "broken"),
        ("paused", "failed", "paused"),
        ("unknown", None, "unknown"),
        # What it does now says nothing of how it is.
        ("running", "succeeded", "healthy"),
        ("running", "failed", "failing"),
        ("running", None, "new"),
        ("waiting", "failed", "failing"),
        ("waiting", None, "new"),
    ],
)
def test_health_of_a_state(state: ModelWord, before: State | None, word: HealthWord) -> None:
    health = health_of(ModelState(state, "the reason"), before)
    assert health.word == word
    assert "the reason" in health.why


@pytest.mark.parametrize("state", ["running", "waiting"])
def test_what_was_before_is_not_known_without_the_event_store(state: ModelWord) -> None:
    assert health_of(ModelState(state, "the reason"), None, is_read=False).word == "unknown"


def test_every_state_has_a_health() -> None:
    for state in get_args(ModelWord):
        for before in (None, "succeeded", "failed"):
            assert health_of(ModelState(state, "why"), before).word in get_args(HealthWord)
