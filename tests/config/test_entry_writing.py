"""Adding an entry to config.yaml: nothing else changes, and never is a half of it there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mlops_plugin.config.entry_writing import add_entry
from mlops_plugin.config.loader import load_config
from mlops_plugin.errors import ConfigError, EntryError

ENTRY = [
    "key: [id]",
    "# which file",
    "model: {format: skops, uri: new.skops}",
    "",
    "source:",
    "  connection: here",
    "  query: |",
    "    SELECT 1 AS id",
    "",
    "sink: {connection: here, table: new_predictions}",
]
OLD = """\
  old:   # it was first
    key: [id]
    model: {format: skops, uri: old.skops}
    source:
      connection: here
      query: |
        SELECT id
        -- # no comment of YAML
        FROM old
    sink: {connection: here, table: old_predictions}  # last"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


@pytest.mark.parametrize(
    "text",
    [
        f"models:\n{OLD}\n",
        f"models:\n{OLD}",
        f"# head\ndefaults: {{retries: 1}}\nmodels: # all\n\n{OLD}\n\n\n# Rows.\nstaging: {{url: x}}\n",
        f"models:\n{OLD}\n    # about the old one\n# the end\n",
        f"models:\n{OLD}\nstaging: {{url: x}}".replace("\n", "\r\n"),
        "models: {}\nstaging: {url: x}\n",
        "models:   # none yet\n",
        "defaults: {retries: 1}\n",
        "\ufeffdefaults: {retries: 1}",
    ],
)
def test_everything_but_the_entry_stays_as_it_is(file: Path, text: str) -> None:
    file.write_bytes(text.encode())
    before = load_config(file).config.models if "old" in text else {}
    add_entry(file, "new", ENTRY)
    loaded = load_config(file)
    assert not loaded.broken
    assert list(loaded.config.models) == [*before, "new"]
    assert loaded.config.models["new"].source.query == "SELECT 1 AS id"
    for name, model in before.items():
        assert loaded.config.models[name] == model
    written = file.read_bytes().decode("utf-8-sig")
    assert ("\r\n" in text) == ("\r\n" in written)
    plain = [line.rstrip("\r") for line in written.split("\n")]
    for line in text.removeprefix("\ufeff").split("\n") if before else ():
        assert line.rstrip("\r") in plain
    add_entry(file, "newer", [line.replace("new", "newer") for line in ENTRY])
    assert list(load_config(file).config.models) == [*before, "new", "newer"]


def test_comments_of_the_next_section_stay_with_it(file: Path) -> None:
    file.write_text(f"models:\n{OLD}\n\n# Where rows wait.\nstaging: {{url: x}}\n")
    add_entry(file, "new", ENTRY)
    text = file.read_text()
    assert text.index("  new:") < text.index("# Where rows wait.")
    assert text.endswith("\n\n# Where rows wait.\nstaging: {url: x}\n")
    assert text.startswith(f"models:\n{OLD}\n\n  new:\n    key: [id]\n    # which file\n")


def test_a_file_that_is_not_there_is_made(file: Path) -> None:
    add_entry(file.parent / "include" / "config.yaml", "new", ENTRY)
    made = file.parent / "include" / "config.yaml"
    assert list(load_config(made).config.models) == ["new"]
    assert made.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["old", "OLD"])
def test_a_name_that_is_taken_is_refused(file: Path, name: str) -> None:
    file.write_text(f"models:\n{OLD}\n")
    with pytest.raises(EntryError, match="'old'"):
        add_entry(file, name, ENTRY)
    assert file.read_text() == f"models:\n{OLD}\n"


def test_a_broken_model_keeps_its_name_too(file: Path) -> None:
    file.write_text(f"models:\n{OLD}\n  ill:\n    retries: -1\n")
    with pytest.raises(EntryError, match="'ill'"):
        add_entry(file, "ill", ENTRY)
    add_entry(file, "new", ENTRY)
    assert set(load_config(file).broken) == {"ill"}


@pytest.mark.parametrize(
    "text",
    [
        "models: {old: {key: [id]}}\n",
        f"models: &all\n{OLD}\n",
    ],
)
def test_another_form_of_models_is_left_to_the_user(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(EntryError, match="  new:\n    key:"):
        add_entry(file, "new", ENTRY)
    assert file.read_text() == text


def test_an_entry_that_is_not_valid_changes_nothing(file: Path) -> None:
    file.write_text(f"models:\n{OLD}\n")
    with pytest.raises(EntryError, match=r"config.yaml:.*models\.new\.keys"):
        add_entry(file, "new", [*ENTRY, "keys: [id]"])
    with pytest.raises(EntryError, match="nothing was written"):
        add_entry(file, "new", [line.replace("new_p", "old_p") for line in ENTRY])
    assert file.read_text() == f"models:\n{OLD}\n"
    assert [path.name for path in file.parent.iterdir()] == ["config.yaml"]


def test_a_file_that_is_no_yaml_is_not_touched(file: Path) -> None:
    file.write_text("models: [")
    with pytest.raises(ConfigError):
        add_entry(file, "new", ENTRY)
    assert file.read_text() == "models: ["


def test_a_link_stays_a_link_and_the_mode_stays(file: Path) -> None:
    real = file.parent / "real.yaml"
    real.write_text(f"models:\n{OLD}\n")
    real.chmod(0o640)
    file.symlink_to(real)
    add_entry(file, "new", ENTRY)
    assert file.is_symlink()
    assert "new" in yaml.safe_load(real.read_text())["models"]
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_new_entry_goes_into_config_yaml_beside_included_files(file: Path) -> None:
    team = file.parent / "team.yaml"
    team.write_text(f"models:\n{OLD}\n")
    file.write_text("include: ['*.yaml']\n")
    with pytest.raises(EntryError, match=r"team\.yaml"):
        add_entry(file, "OLD", ENTRY)
    add_entry(file, "new", ENTRY)
    assert set(load_config(file).config.models) == {"old", "new"}
    assert team.read_text() == f"models:\n{OLD}\n"
    assert [path.name for path in sorted(file.parent.iterdir())] == ["config.yaml", "team.yaml"]


def test_a_full_disk_leaves_the_folder_as_it_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file.write_text(f"models:\n{OLD}\n")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(EntryError, match="cannot be written: No space left on device"):
        add_entry(file, "new", ENTRY)
    assert [(path, path.read_text()) for path in file.parent.iterdir()] == [(file, f"models:\n{OLD}\n")]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Path.mkdir, "this is a folder"),
        (os.mkfifo, "not a regular file"),
        (lambda file: file.write_bytes(b"# for \xe9\n"), "byte 0xE9 is not UTF-8"),
    ],
)
def test_what_is_no_file_of_text_is_named(file: Path, make: Callable[[Path], object], says: str) -> None:
    make(file)
    with pytest.raises(ConfigError, match=says):
        add_entry(file, "new", ENTRY)
