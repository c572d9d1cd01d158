"""`make docs` builds a site of all pages, without a broken link and without anything from other hosts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What a browser fetches by itself.
LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=[\"']?(https?://[^\"' >]+)")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the pages, so that the build leaves nothing in the repository."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    return tmp_path


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def listed(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from listed(below)


def test_the_navigation_lists_each_page_once(source: Path) -> None:
    navigation = [*listed(tomllib.loads((source / "zensical.toml").read_text())["project"]["nav"])]
    pages = {page.relative_to(source / "docs").as_posix() for page in (source / "docs").rglob("*.md")}
    assert sorted(navigation) == sorted(pages)


def test_the_site_builds_and_loads_nothing_from_other_hosts(source: Path) -> None:
    built = build(source)
    assert built.returncode == 0, built.stdout + built.stderr
    pages = [*(source / "site").rglob("*.html")]
    assert len(pages) > len([*(source / "docs").rglob("*.md")])  # one for what is missing, besides
    assert {page.name: found for page in pages if (found := LOADED.findall(page.read_text()))} == {}
    assert not [*(source / "site").rglob("*.py")]


def test_a_link_to_a_missing_heading_fails_the_build(source: Path) -> None:
    (source / "docs" / "glossary.md").write_text("# Glossary\n\n[install](install.md#no-such-heading)\n")
    assert build(source).returncode != 0
