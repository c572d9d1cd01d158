"""The wheel, built once for all tests of a process, and unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

from release.build import CHECKOUT, build


class BuiltWheel(NamedTuple):
    """What `make dist` makes, and the wheel's files as pip would lay them."""

    sdist: Path
    wheel: Path
    site: Path


def build_wheel(folder: Path) -> BuiltWheel:
    sdist, wheel = build(CHECKOUT, folder / "dist")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return BuiltWheel(sdist, wheel, folder / "site")
