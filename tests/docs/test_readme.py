"""The README is short and true: two sentences, a picture, two commands, ten facts, and measured numbers."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
README, TRANSLATION = ROOT / "README.md", ROOT / "docs" / "pt" / "README.md"
FACT = re.compile(r"^\d+\. (.*?)(?=^\d+\. |\Z)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)")
BOTH = pytest.mark.parametrize("page", [README, TRANSLATION], ids=["english", "portuguese"])
WORDS = {"cinco": 5, "five": 5}


@BOTH
def test_it_has_two_sentences_a_picture_two_commands_and_ten_facts(page: Path) -> None:
    opening, commands, facts = page.read_text(encoding="utf-8").split("\n## ")
    title, sentences, picture = opening.split("\n\n", 2)
    assert title.startswith("# ")
    assert len(re.findall(r"\.(?=\s|$)", sentences)) == 2
    assert re.fullmatch(r"<picture>.*?</picture>\s*", picture, re.DOTALL)
    block = re.fullmatch(r"[^\n]+\n\n```sh\n(.*?)```\s*", commands, re.DOTALL)
    assert block
    assert [line.split(" #")[0].strip() for line in block[1].splitlines()] == ["make up", "make test"]
    _, rest = facts.split("\n\n", 1)
    assert re.match(r"\d+\. ", rest), "something stands between the heading and the facts"
    assert re.findall(r"^(\d+)\. ", rest, re.MULTILINE) == [str(number) for number in range(1, 11)]
    found = FACT.findall(rest)
    assert [fact for fact in found if not LINK.search(fact)] == []


@BOTH
def test_its_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = LINK.findall(text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


@BOTH
def test_each_of_its_numbers_is_that_of_what_it_counts(page: Path) -> None:
    text = LINK.sub("", page.read_text(encoding="utf-8")).replace(",", ".")
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    least, beyond = re.findall(r"3\.(\d+)", python)
    models = yaml.safe_load((ROOT / "include" / "config.yaml").read_text())["models"]
    measured = re.search(
        r"^\| mysql \(MariaDB\) \| LogisticRegression \| 1,000,000 \| ([\d.]+) s \| ([\d.]+) s ",
        (ROOT / "docs" / "performance.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert measured, (
        "docs/performance.md has the million rows elsewhere: `make bench PART=ways_in` writes them"
    )
    by_script, here = measured.groups()
    protocol = "2"
    known = {f"3.{least}", f"3.{int(beyond) - 1}", here, by_script, protocol}
    counted = re.sub(r"^\d+\. |^#.*|srcset.*|src=.*", "", text, flags=re.MULTILINE)
    assert set(re.findall(r"\d+(?:\.\d+)?", counted)) == known
    assert [WORDS[word] for word in re.findall(r"cinco|five", text)] == [len(models)]
