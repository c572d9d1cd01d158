"""Reads quoted table names back, for drivers that want the plain parts."""

from __future__ import annotations

import re

_PART = re.compile(r'"((?:[^"]|"")*)"|`((?:[^`]|``)*)`|\[((?:[^\]]|\]\])*)\]|([^."`\[]+)')


def name_parts(quoted: str) -> list[str]:
    """`"my schema"."t"` as `['my schema', 't']`."""
    parts = []
    for double, back, bracket, plain in _PART.findall(quoted):
        parts.append(
            plain or double.replace('""', '"') or back.replace("``", "`") or bracket.replace("]]", "]")
        )
    return parts
