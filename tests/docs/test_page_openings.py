"""Each page says first what it is for, and the index leads to each task and each reader's pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
IDS = [page.relative_to(DOCS).as_posix() for page in PAGES]
TASKS = (
    "run a model",
    "connect a database",
    "find out why it failed",
    "secure it",
    "scale it",
    "upgrade it",
    "undo a bad model",
)
ROLES = ("a data scientist", "an operator", "an engineer", "an auditor")
_MOST_WORDS = 40
_NO_PROSE = ("#", "|", "-", "*", "<", "!", "```", "1.")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_first_sentence_stands_alone(page: Path) -> None:
    """A sentence of moderate length directly below the title: no picture, list or table comes before it."""
    title, below, *_ = page.read_text(encoding="utf-8").split("\n\n")
    assert re.fullmatch(r"# .+", title)
    assert not below.startswith(_NO_PROSE)
    sentence = re.split(r"(?<=[.:])\s", below.replace("\n", " ") + " ")[0]
    assert sentence.endswith((".", ":"))
    assert 5 <= len(sentence.split()) <= _MOST_WORDS
    assert not re.match(r"(Yes|No|It|This|They|These|Here)\b", sentence), "a page opens with what it is for"


def test_the_index_leads_to_each_task_and_each_readers_pages() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    tasks = dict(re.findall(r"^\| \*\*([^*|]+)\*\*[^|]*\| (.+) \|$", index, re.MULTILINE))
    roles = dict(re.findall(r"^\| (an? [\w ]+) \| (.+) \|$", index, re.MULTILINE))
    assert tuple(tasks) == TASKS
    assert tuple(roles) == ROLES
    assert [name for name, links in {**tasks, **roles}.items() if "](" not in links] == []
    assert all(links.count("](") >= 3 for links in roles.values())


def test_there_is_a_way_from_each_earlier_tool() -> None:
    text = (DOCS / "coming-from.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["A cron job with a script", "SageMaker", "MLflow"]


def test_the_glossary_is_in_order_and_explains_each_word() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", (DOCS / "glossary.md").read_text(), re.MULTILINE)[2:]
    words = [word for word, _ in rows]
    assert words == sorted(words, key=str.casefold)
    assert len(words) == len(set(words)) > 30
