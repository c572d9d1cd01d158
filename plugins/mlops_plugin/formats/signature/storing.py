"""Puts signatures and baselines where artifacts are: on a disk, or at an fsspec URL."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mlops_plugin.errors import SignatureError
from mlops_plugin.formats.signature.signature import read_content
from mlops_plugin.formats.signature.signature_writer import dump_signature

PRIVATE, PUBLIC = 0o640, 0o644  # of rows of training; of rows that are made up, and of what sums rows up


def store_signature(uri: str, content: dict[str, Any]) -> str:
    """Write it in place of an earlier one, which stays if this fails; returns its SHA-256 (64 hex digits)."""
    data = dump_signature(content)
    try:
        store_whole(uri, data, PUBLIC if content["golden"]["origin"] == "synthetic" else PRIVATE)
    except Exception as error:  # every storage has a library with errors of its own
        raise SignatureError(f"signature '{uri}' cannot be written: {error}") from error
    return hashlib.sha256(data).hexdigest()


def store_whole(uri: str, data: bytes, mode: int) -> None:
    """Write a file in place of an earlier one, which stays if this fails; `mode` is for local files."""
    if "://" in uri:
        import fsspec

        with fsspec.open(uri, "wb") as file:
            file.write(data)
        return
    path = Path(uri).resolve()  # a link stays one
    unfinished = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)  # the folder of a registry's signatures
    try:
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode)
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def add_to_signature(uri: str, baseline: dict[str, Any]) -> str:
    """Put a baseline into a signature; returns the signature's new SHA-256."""
    content = json.loads(read_content(uri) or b"{}")
    return store_signature(uri, content | {"baseline": baseline})
