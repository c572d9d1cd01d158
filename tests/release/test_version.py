"""The version stands in pyproject.toml; whatever else names it says the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
MOST_WORDS = 2000  # of a version in the changelog


def version() -> str:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def test_the_image_and_the_wheel_to_install_have_the_version() -> None:
    compose = (CHECKOUT / "docker-compose.yaml").read_text(encoding="utf-8")
    assert re.findall(r"mlops-plugin:([\d.]+)\}", compose) == [version()]
    install = (CHECKOUT / "docs" / "install.md").read_text(encoding="utf-8")
    assert re.findall(r"mlops_plugin-([\d.]+)-py3-none-any\.whl", install) == [version()]


def test_the_changelog_has_each_version_once_and_this_one_first() -> None:
    text = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[([\w.]+)\]$", text, re.MULTILINE)
    assert headings[:2] == ["Unreleased", version()]
    assert headings[1:] == sorted(headings[1:], key=lambda name: [*map(int, name.split("."))], reverse=True)
    assert re.findall(r"^\[([\w.]+)\]: #", text, re.MULTILINE) == headings


def test_a_version_says_what_users_notice_and_no_more() -> None:
    text = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.split(r"^## \[", text, flags=re.MULTILINE)[2:]
    assert [part.split("]")[0] for part in versions if len(part.split()) > MOST_WORDS] == []


def test_every_earlier_version_has_its_notes_for_upgrading() -> None:
    changelog = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    minor = list(dict.fromkeys(re.findall(r"^## \[(\d+\.\d+)\.\d+\]$", changelog, re.MULTILINE)))
    page = (CHECKOUT / "docs" / "upgrading.md").read_text(encoding="utf-8")
    notes = re.findall(r"^## From ([\d.]+) to ([\d.]+)$", page, re.MULTILINE)
    assert notes == list(zip(minor[1:], minor, strict=False))
