from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mlops_plugin.config.loader import LoadedConfig, load_config

Load = Callable[..., LoadedConfig]

TEXT = """\
models:
  churn:
    schedule: 90m
    start_date: 2026-01-01T02:00:00+02:00
    model: {format: skops, uri: models/churn.skops}
    key: [id]
    source: {connection: warehouse, query: SELECT id FROM customers}
    sink: {connection: warehouse, table: predictions}
"""
# Written down: a new release must not make every model look changed. Where the meaning of the configuration
# changes (a parameter is added, a default differs), a new value here belongs to that change.
HASH = "e35a9b4e0595ef87561b7a7f7d29ad3f025cc881c6b799239b71a1b86a23de32"


def digest(load: Load, text: str) -> str:
    return load(text).config.models["churn"].config_hash()


def test_the_hash_of_a_configuration_is_known(load: Load) -> None:
    assert digest(load, TEXT) == HASH


def test_the_hash_ignores_order_style_and_written_out_defaults(load: Load) -> None:
    lines = TEXT.splitlines(keepends=True)
    same = "defaults: {retries: 2}\n" + "".join(
        [*lines[:2], *reversed(lines[2:]), "    task_timeout: 60m\n    tags: []\n"]
    )

    assert digest(load, same) == HASH
    assert digest(load, TEXT.replace("2026-01-01T02:00:00+02:00", "2026-01-01")) == HASH


def test_the_hash_changes_with_any_value(load: Load) -> None:
    changed = [
        TEXT.replace("90m", "91m"),
        TEXT.replace("churn.skops", "churn2.skops"),
        TEXT.replace("[id]", "[id, x]"),
        TEXT.replace("SELECT id", "SELECT  id"),
        TEXT + "    retries: 3\n",
        "defaults: {retries: 3}\n" + TEXT.replace("90m", "92m"),
    ]

    assert len({digest(load, text) for text in (*changed, TEXT)}) == 7


def test_the_hash_is_the_same_in_another_folder_and_process(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "config.yaml"
    path.parent.mkdir()
    path.write_text(TEXT)
    code = (
        "import sys; from pathlib import Path; from mlops_plugin.config.loader import load_config; "
        "print(load_config(Path(sys.argv[1])).config.models['churn'].config_hash())"
    )
    plugins = Path(load_config.__code__.co_filename).parents[2]
    command = [sys.executable, "-c", code, str(path)]
    environment = {"PYTHONPATH": str(plugins), "PYTHONHASHSEED": "7"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert result.stdout.strip() == HASH
