"""A deployment whose model has a library that is nowhere but in its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.own_environments import add_model, scorer, write_wheels
from support.workshop import Workshop


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture
def own(workshop: Workshop) -> Workshop:
    """A deployment whose model `churn` needs the library `old_scores`, and has it once it is synced."""
    add_model(workshop, scorer(), "old-scores==1.0")
    return workshop
