"""Wheels made in a moment: a library of a model's own, and stand-ins for the large ones that are installed.

A stand-in has a file `.pth`, by which its environment finds what is installed here.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write_wheel(folder: Path, name: str, version: str, files: Mapping[str, str]) -> Path:
    """A wheel of this package with these files; returns where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{name}-{version}.dist-info"
    content = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for place, text in content.items():
            wheel.writestr(place, text)
        lines = [f"{place},{_digest(text)},{len(text.encode())}" for place, text in content.items()]
        wheel.writestr(f"{about}/RECORD", "\n".join([*lines, f"{about}/RECORD,,", ""]))
    return path


def write_stand_ins(folder: Path) -> None:
    """numpy and pyarrow, and with them everything that is installed here."""
    installed = str(Path(np.__file__).parents[1])  # site-packages
    for name in ("numpy", "pyarrow"):
        write_wheel(folder, name, "99.0", {f"installed_{name}.pth": f"{installed}\n"})


def sha256_of_wheel(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")
