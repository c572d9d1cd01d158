"""Puts signatures and baselines where artifacts are: on a disk, or at an fsspec URL."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from mlops_plugin.errors import SignatureError
from mlops_plugin.formats.signature.signature import read_content
from mlops_plugin.formats.signature.signature_writer import dump_signature
from mlops_plugin.formats.signature.whole_files import PUBLIC, store_whole

_PRIVATE = 0o640  # of rows of training; others are made up


def store_signature(uri: str, content: dict[str, Any]) -> str:
    """Write it in place of an earlier one, which stays if this fails; returns its SHA-256 (64 hex digits)."""
    data = dump_signature(content)
    try:
        store_whole(uri, data, PUBLIC if content["golden"]["origin"] == "synthetic" else _PRIVATE)
    except Exception as error:  # every storage has a library with errors of its own
        raise SignatureError(f"signature '{uri}' cannot be written: {error}") from error
    return hashlib.sha256(data).hexdigest()


def add_to_signature(uri: str, baseline: dict[str, Any]) -> str:
    """Put a baseline into a signature; returns the signature's new SHA-256."""
    content = json.loads(read_content(uri) or b"{}")
    return store_signature(uri, content | {"baseline": baseline})
