"""A Showroom over a workshop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlops_plugin.config.schema import ServingConfig
from mlops_plugin.serving.run import Showroom
from mlops_plugin.workers.pool import ModelPool
from support.workshop import Workshop


@pytest.fixture(scope="module")
def pool() -> Iterator[ModelPool]:
    pool = ModelPool(ServingConfig())
    yield pool
    pool.close()


@pytest.fixture
def showroom(workshop: Workshop, pool: ModelPool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Showroom]:
    """It does not take a model for slow because the machine is."""
    monkeypatch.setattr("mlops_plugin.serving.run._EXPLAINS_WITHIN_S", 600.0)
    with workshop.deployment.event_store() as store:
        yield Showroom(workshop.deployment, store, pool)
