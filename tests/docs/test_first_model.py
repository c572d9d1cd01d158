"""The tutorial works by its words alone: every block of docs/first-model.md, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "first-model.md"
_BLOCK = re.compile(r"(?:Save this as `([\w.]+)`:\n\n)?```(\w*)\n(.*?)```", re.DOTALL)


def test_each_command_of_the_first_model_works(tmp_path: Path) -> None:
    folder, programs = tmp_path / "empty folder", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name, program in (("python", ""), ("mlops", "-m mlops_plugin.cli")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {program} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "plugins")}
    commands: list[str] = []
    for file, language, text in _BLOCK.findall(PAGE.read_text()):
        if language == "python":
            assert file, text
            (folder / file).write_text(text)
        elif language == "yaml":
            commands.append(f"cat config.yaml > {len(commands)}.yaml")
            (folder / f"{len(commands) - 1}.expected").write_text(text)
        else:
            assert language == "sh", language
            commands.append(text)
    done = subprocess.run(
        ["sh", "-eu", "-c", "\n".join(commands)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (expected,) = folder.glob("*.expected")
    assert expected.read_text() in expected.with_suffix(".yaml").read_text()
    with sqlite3.connect(folder / "penguins.db") as database:
        rows = database.execute(
            "SELECT count(*), count(DISTINCT id), avg(prediction = species) "
            "FROM penguins_predictions JOIN measured USING (id)"
        ).fetchone()
    database.close()
    assert rows[:2] == (150, 150)
    assert rows[2] > 0.8, "the model is no better than the page says"
    chart = done.stdout.splitlines()[-3:]
    assert [line.split()[0] for line in chart] == ["Adelie", "Chinstrap", "Gentoo"]
    assert "1 of 1 models OK; no problems" in done.stdout
    assert "alembic" not in done.stdout


def test_the_index_names_every_page() -> None:
    pages = {path.name for path in PAGE.parent.glob("*.md")} - {"README.md"}
    named = set(re.findall(r"\(([\w-]+\.md)", (PAGE.parent / "README.md").read_text()))
    assert named == pages


def _commands(page: Path) -> list[str]:
    """The blocks of code, and in them of comments only those that a program needs."""
    blocks = re.findall(r"```(\w*)\n(.*?)```", page.read_text(), re.DOTALL)
    return [re.sub(r" +# .*", "", text) if language == "sh" else text for language, text in blocks]


@pytest.mark.parametrize(
    ("page", "translation"), [(PAGE, "first-model.md"), (ROOT / "README.md", "README.md")]
)
def test_the_portuguese_page_has_the_same_commands(page: Path, translation: str) -> None:
    commands = _commands(page)
    assert len(commands) > 0
    assert _commands(PAGE.parent / "pt" / translation) == commands


@pytest.mark.parametrize(
    ("page", "translation"), [(PAGE, "first-model.md"), (ROOT / "README.md", "README.md")]
)
def test_the_portuguese_page_has_the_same_sections_tables_and_links(page: Path, translation: str) -> None:
    original, translated = page.read_text(), (PAGE.parent / "pt" / translation).read_text()
    for line in ("\n## ", "\n| ", "\n- ", "\n1. "):
        assert translated.count(line) == original.count(line)
    assert _links(translated) == _links(original)


def _links(text: str) -> set[str]:
    """The pages and sections that it leads to, wherever it lies itself."""
    return {re.sub(r"^(\.\./|docs/)*(pt/)?", "", target) for target in re.findall(r"\]\(([^)]+)\)", text)}
