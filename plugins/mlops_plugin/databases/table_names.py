"""Reads quoted table names back, for drivers that want the plain parts, and PostgreSQL's catalogue."""

from __future__ import annotations

import re

_PART = re.compile(r'"((?:[^"]|"")*)"|`((?:[^`]|``)*)`|\[((?:[^\]]|\]\])*)\]|([^."`\[]+)')

# A row per column of the table `?`, NULL for a table without columns, no row without the table. Table and
# columns come from one snapshot: `to_regclass` alone already finds a table that is being created, while the
# rest of the query does not see its columns yet.
POSTGRES_COLUMNS = (
    "SELECT a.attname::text FROM pg_class c "
    "LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
    "WHERE c.oid = to_regclass(?) ORDER BY a.attnum"
)


def name_parts(quoted: str) -> list[str]:
    """`"my schema"."t"` as `['my schema', 't']`."""
    parts = []
    for double, back, bracket, plain in _PART.findall(quoted):
        parts.append(
            plain or double.replace('""', '"') or back.replace("``", "`") or bracket.replace("]]", "]")
        )
    return parts
