"""docs/reference.md is what the code says today, and leaves nothing out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As `make docs` writes it."""
    path = tmp_path_factory.mktemp("docs") / "reference.md"
    subprocess.run([sys.executable, DOCS / "reference.py", path], check=True)
    return path.read_text()


def test_the_page_is_current(page: str) -> None:
    assert (DOCS / "reference.md").read_text() == page, "renew it with `make docs`"


def test_every_line_says_what_it_means(page: str) -> None:
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if not row.split(" | ")[1].strip(" |")] == []


def test_each_error_is_listed_once(page: str) -> None:
    listed = re.findall(r"^\| `(\w+)` \|", page.partition("\n## Errors\n")[2], re.MULTILINE)
    assert len(listed) == len({*listed}) > 0
