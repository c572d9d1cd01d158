"""The pictures of the views, each on the page about its view."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
VIEWS = ("showroom", "dispatches", "monitor")


@pytest.mark.parametrize("view", VIEWS)
def test_the_page_about_a_view_shows_it_in_light_and_dark(view: str) -> None:
    shown = re.findall(r"images/[\w-]+\.png", (DOCS / f"{view}.md").read_text())
    assert sorted(shown) == [f"images/{view}-dark.png", f"images/{view}-light.png"]
    for image in shown:
        assert 10_000 < (DOCS / image).stat().st_size < 200_000, image
