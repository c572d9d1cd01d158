"""Configuration files as the tests write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_plugin.config.loader import LoadedConfig, load_config
from mlops_plugin.errors import ConfigError

Load = Callable[..., LoadedConfig]
Complain = Callable[[str | bytes], list[str]]

CHURN = """\
models:
  churn:
    model: {format: skops, uri: churn.skops}
    key: [id]
    source: {connection: warehouse, query: SELECT id FROM customers}
    sink: {connection: warehouse, table: predictions}
"""


@pytest.fixture(scope="session")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("include") / "config.yaml"


@pytest.fixture(scope="session")
def load(config_file: Path) -> Load:
    """Load a text as config.yaml."""

    def load(text: str | bytes, only: str | None = None) -> LoadedConfig:
        config_file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(config_file, only=only)

    return load


@pytest.fixture
def complain(load: Load, config_file: Path, monkeypatch: pytest.MonkeyPatch) -> Complain:
    """Everything that is wrong with a text, as an operator in the file's folder reads it."""
    monkeypatch.chdir(config_file.parent)

    def complain(text: str | bytes) -> list[str]:
        try:
            loaded = load(text)
        except ConfigError as error:
            return [str(problem) for problem in error.problems]
        return [str(problem) for problems in loaded.broken.values() for problem in problems]

    return complain


@pytest.fixture
def complain_about(complain: Complain) -> Callable[[str], list[str]]:
    """Everything that is wrong with the model `churn` once `lines` stand at its end, from line 7 on."""

    def complain_about(lines: str) -> list[str]:
        return complain(CHURN + "".join(f"    {line}\n" for line in lines.splitlines()))

    return complain_about
