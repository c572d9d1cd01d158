"""A table's name: parsed from the configuration, quoted by an engine, and passed to drivers in its parts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_plugin.errors import SinkError

if TYPE_CHECKING:
    from mlops_plugin.databases.engines.engine import Engine

_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')
_MOST_PARTS = 3


@dataclass(frozen=True)
class TableName:
    """`table`, `schema.table` or `catalog.schema.table`; the parts are unquoted."""

    name: str
    schema: str | None = None
    catalog: str | None = None

    @classmethod
    def parse(cls, text: str) -> TableName:
        """Read a name as the configuration writes it.

        A part that holds a dot or a quote stands in double quotes, with each quote inside it doubled. Raises
        `SinkError` for anything else.
        """
        parts: list[str] = []
        position = 0
        while match := _PART.match(text, position):
            quoted, plain = match.groups()
            parts.append(quoted.replace('""', '"') if quoted else plain)
            position = match.end()
            if position == len(text) or text[position] != ".":
                break
            position += 1
        is_complete = position == len(text) and not text.endswith(".") and "\0" not in text
        if not is_complete or not 1 <= len(parts) <= _MOST_PARTS:
            raise SinkError(
                f"{text!r} is not a table name; write table or schema.table, and put a part that holds a dot "
                'or a quote in double quotes, e.g. sales."2026.predictions"'
            )
        if any(part != part.strip() for part in parts):
            raise SinkError(f"the table name {text!r} begins or ends with a space; remove it")
        name, schema, catalog = (*reversed(parts), None, None)[:_MOST_PARTS]
        return cls(str(name), schema, catalog)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are there, the table last."""
        return tuple(part for part in (self.catalog, self.schema, self.name) if part is not None)

    def quoted(self, engine: Engine) -> str:
        """The name in SQL, each part quoted. Raises `SinkError` for a part that the engine refuses."""
        return ".".join(engine.quote(part) for part in self.parts)

    def __str__(self) -> str:
        """The name as the configuration writes it."""
        return ".".join(
            '"' + part.replace('"', '""') + '"' if "." in part or '"' in part else part for part in self.parts
        )
