"""Pictures, diagrams and recordings: each is shown by a page, with words for those who do not see it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
RECORDINGS = sorted((DOCS / "recordings").glob("*"))
DIAGRAMS = sorted((DOCS / "diagrams").glob("*"))
MAX_RECORDING_BYTES = 1_000_000
_LEAST_ALT = 15
_MARKDOWN = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
_HTML = re.compile(r"<img\b([^>]*)>")


def pictures(page: Path) -> list[tuple[str, Path]]:
    """The alternative text and the file of each."""
    text = page.read_text(encoding="utf-8")
    found = _MARKDOWN.findall(text)
    for attributes in _HTML.findall(text):
        alt, source = (re.search(rf'{name}="([^"]*)"', attributes) for name in ("alt", "src"))
        found.append((alt[1] if alt else "", source[1] if source else ""))
    found += [("dark: see the one beside it", file) for file in re.findall(r'srcset="([^"]+)"', text)]
    return [(alt, (page.parent / file).resolve()) for alt, file in found]


def test_each_picture_exists_and_has_words() -> None:
    shown = [(page, alt, file) for page in PAGES for alt, file in pictures(page)]
    assert [(page.name, file) for page, _, file in shown if not file.is_file()] == []
    assert [(page.name, file.name) for page, alt, file in shown if len(alt) < _LEAST_ALT] == []


def test_each_file_is_shown_by_a_page() -> None:
    shown = {file for page in PAGES for _, file in pictures(page)}
    files = {file for kind in ("png", "svg", "webp") for file in DOCS.rglob(f"*.{kind}")}
    assert files - shown == set()


@pytest.mark.parametrize("file", RECORDINGS, ids=lambda file: file.stem)
def test_a_recording_is_short_and_starts_when_it_is_asked_for(file: Path) -> None:
    assert file.stat().st_size < MAX_RECORDING_BYTES
    milliseconds = 0
    with Image.open(file) as recording:
        assert recording.n_frames > 5  # type: ignore[attr-defined]
        for number in range(recording.n_frames):  # type: ignore[attr-defined]
            recording.seek(number)
            recording.load()
            milliseconds += recording.info["duration"]
    (shown,) = [
        page for page in PAGES if page.parent == DOCS and file.name in page.read_text(encoding="utf-8")
    ]
    (details,) = re.findall(r"<details>(.*?)</details>", shown.read_text(encoding="utf-8"), re.DOTALL)
    assert f'{file.name}" loading="lazy"' in details
    (seconds,) = re.findall(r"recording of (\d+) seconds", details)
    assert round(milliseconds / 1000) == int(seconds)


def test_the_diagrams_are_current(tmp_path: Path) -> None:
    subprocess.run([sys.executable, DOCS / "diagrams.py", tmp_path], check=True)
    drawn = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert {file.name: file.read_text() for file in DIAGRAMS} == drawn, "renew them with `make docs`"


@pytest.mark.parametrize("file", DIAGRAMS, ids=lambda file: file.stem)
def test_a_diagram_has_colors_for_light_and_dark_and_a_description(file: Path) -> None:
    root = ElementTree.fromstring(file.read_text())  # noqa: S314 (our own)
    name = "{http://www.w3.org/2000/svg}"
    description = root.findtext(f"{name}desc")
    assert description
    assert root.get("role") == "img"
    style = root.findtext(f"{name}style") or ""
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    classes = {each.get("class") for each in root.iter() if each.get("class")}
    assert [each for each in classes if f".{each} " not in light or f".{each} " not in dark] == []
    width = float(str(root.get("viewBox")).split()[2])
    texts = list(root.iter(f"{name}text"))
    assert all(0 < float(str(each.get("x"))) < width for each in texts)
