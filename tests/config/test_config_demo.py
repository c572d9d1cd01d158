"""include/config.yaml fits what include/make_demo.py makes."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_plugin.config.loader import LoadedConfig, load_config
from mlops_plugin.config.schema import ModelConfig

ROOT = Path(__file__).parents[2]
NAMES = ("breast_cancer", "wine", "diabetes", "digits", "iris")


@pytest.fixture(scope="module")
def loaded() -> LoadedConfig:
    return load_config(ROOT / "include" / "config.yaml")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "source.db"
    command = [sys.executable, str(ROOT / "include" / "make_demo.py"), "--sqlite", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def test_the_demo_is_five_sound_models(loaded: LoadedConfig) -> None:
    assert tuple(loaded.config.models) == NAMES
    assert not loaded.broken


def test_every_demo_model_has_a_schedule_and_reads_and_writes_through_connections(
    loaded: LoadedConfig,
) -> None:
    for model in loaded.config.models.values():
        assert model.schedule is not None
        assert (model.source.connection, model.sink.connection) == ("demo_source", "demo_sink")
        assert model.sink.table == f"{model.name}_predictions"


@pytest.mark.parametrize("name", NAMES)
def test_a_demo_artifact_is_the_file_that_is_pinned(loaded: LoadedConfig, name: str) -> None:
    artifact = loaded.model(name).model
    content = Path(artifact.uri).read_bytes()

    assert artifact.sha256 in (None, hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("name", NAMES)
def test_a_demo_model_finds_its_columns_in_the_source(loaded: LoadedConfig, source: Path, name: str) -> None:
    model = loaded.model(name)
    with sqlite3.connect(source) as connection:
        for query in filter(None, (_rendered(model), model.showroom.cases)):
            cursor = connection.execute(query)
            columns = [column[0] for column in cursor.description]
            assert set(model.key) <= set(columns)
            assert cursor.fetchone()
        cases = connection.execute(model.showroom.cases or model.source.query)
        shown = {column[0] for column in cases.description}
    assert {model.showroom.truth, *model.showroom.search} <= shown


def _rendered(model: ModelConfig) -> str:
    """The query in an interval that ends now."""
    from datetime import UTC, datetime

    from jinja2 import Template

    return str(Template(model.source.query).render(data_interval_end=datetime.now(UTC)))
