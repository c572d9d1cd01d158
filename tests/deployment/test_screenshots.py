"""The pictures of the README."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
VIEWS = ("showroom", "dispatches", "monitor")


def test_readme_shows_every_view_in_light_and_dark() -> None:
    shown = re.findall(r"docs/images/[\w-]+\.png", (REPOSITORY / "README.md").read_text())
    assert sorted(shown) == sorted(
        f"docs/images/{view}-{scheme}.png" for view in VIEWS for scheme in ("light", "dark")
    )
    for image in shown:
        assert 10_000 < (REPOSITORY / image).stat().st_size < 200_000, image
