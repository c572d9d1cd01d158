"""A column of a query as its database has it, and what to say where its values would not arrive as stored.

Every way in refuses a column through this, so that each refusal names the column, its type and a cast.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.errors import UnsupportedType


@dataclass(frozen=True)
class SourceColumn:
    """`type_name` is the engine's own word for the column's type."""

    conn_id: str
    name: str
    type_name: str
    engine: Engine

    def refusal(
        self, reason: str, *, instead: str | None = None, nearest: str | None = None
    ) -> UnsupportedType:
        """The error to raise; `reason` goes on after "column 'a' of type bit".

        `instead` is SQL with `{0}` for the column, which hands over every value exactly; its text unless
        told. `nearest` is SQL that rounds, for a model that wants numbers.
        """
        name = self.engine.enclose(self.name)
        exact = instead.format(name) if instead else self.engine.exact_text(name)
        rounded = f", or {nearest.format(name)} where rounding does no harm" if nearest else ""
        return UnsupportedType(
            f"connection '{self.conn_id}': column '{self.name}' of type {self.type_name} {reason}; "
            f"write {exact} AS {name} in the query{rounded}"
        )
