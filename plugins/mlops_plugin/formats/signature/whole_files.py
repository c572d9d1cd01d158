"""Writes files that are whole or not there: on a disk, or at an fsspec URL."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PUBLIC = 0o644


def store_whole(uri: str, data: bytes, mode: int | None = None) -> None:
    """Write a file in place of an earlier one, which stays if this fails.

    `mode` is for local files; without one, that of the earlier file, or else everybody may read it.
    """
    if "://" in uri:
        import fsspec

        with fsspec.open(uri, "wb") as file:
            file.write(data)
        return
    path = Path(uri).resolve()  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)  # the folder of a registry's signatures
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        if mode is None:
            mode = path.stat().st_mode & 0o777 if path.exists() else PUBLIC
        unfinished.chmod(mode)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
