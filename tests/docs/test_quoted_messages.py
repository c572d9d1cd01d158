"""Messages that docs/operations.md quotes are those of the code, so that a search for one finds the page."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What a message fills in: the page shows examples of it.
_FILLED_IN = re.compile(r"\.\.\.|\d+|'[^']*'|scheduler")
_ADJACENT = re.compile(r"\"\n\s*f?\"")


def test_each_message_is_in_the_code() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    table = page.partition("\n## When something is wrong\n")[2].partition("\n## ")[0]
    quoted = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    files = [*(ROOT / "local_stack").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    code = "\n".join(_ADJACENT.sub("", path.read_text(encoding="utf-8")) for path in files)
    assert len(quoted) >= 10
    fixed = [part for message in quoted for part in _FILLED_IN.split(message) if len(part.strip(" ,.:")) > 3]
    assert [part for part in fixed if part.strip() not in code and not part.startswith(".local")] == []
