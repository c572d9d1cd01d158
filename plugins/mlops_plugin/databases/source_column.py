"""A column of a query as its database has it, and the error if its values would not arrive as stored.

Every driver refuses a column through this, so that each refusal names the column, its type and a cast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_plugin.errors import UnsupportedType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_plugin.databases.engines.engine import Engine

_MOST_WORDS = 3  # of a column, in one message
_MOST_CHARACTERS = 40


@dataclass(frozen=True)
class SourceColumn:
    """`type_name` is the engine's own word for the column's type; `is_exact` None: its use is not known."""

    conn_id: str
    name: str
    type_name: str
    engine: Engine
    is_exact: bool | None = None

    @property
    def is_feature(self) -> bool:
        """Whether only a model reads the column: a number may then arrive as the nearest double."""
        return self.is_exact is False

    def refusal(self, reason: str, *, instead: str | None = None, is_number: bool = False) -> UnsupportedType:
        """The error to raise; `reason` goes on after "column 'a' of type bit".

        `instead` is SQL with `{0}` for the column that hands over every value exactly; by default its text.
        `is_number`: a double is offered as well, to a feature first.
        """
        name = self.engine.enclose(self.name)
        exact = instead.format(name) if instead else self.engine.exact_text(name)
        double = self.engine.as_double(name)
        first, then = exact, f", or {double} if rounding is acceptable"
        if self.is_exact is True or not is_number:
            then = ""
        elif self.is_feature:
            first, then = double, f", or {exact} to keep every digit"
        return UnsupportedType(
            f"connection '{self.conn_id}': column '{self.name}' of type {self.type_name} {reason}; "
            f"write {first} AS {name} in the query{then} (cast the expression itself if {name} names one)"
        )

    def refusal_of_texts(self, words: Sequence[str], place: str) -> UnsupportedType:
        """The error for a column of numbers that also holds `words`; `place`: where the first one is."""
        name = self.engine.enclose(self.name)
        shown = ", ".join(map(text_literal, words[:_MOST_WORDS]))
        more = f" and {len(words) - _MOST_WORDS} more" if len(words) > _MOST_WORDS else ""
        fix = name
        for word in words[:_MOST_WORDS]:
            fix = f"NULLIF({fix}, {text_literal(word)})"
        return UnsupportedType(
            f"connection '{self.conn_id}': column '{self.name}' of type {self.type_name} holds text as "
            f"well as numbers: {shown}{more}{f', first at {place}' if place else ''}; if it means a missing "
            f"value, write {fix} AS {name} in the query (a CAST to a number would turn it into 0)"
        )


def text_literal(value: str) -> str:
    """A short text as SQL, cut after some characters."""
    text = value if len(value) <= _MOST_CHARACTERS else value[:_MOST_CHARACTERS] + "..."
    return "'" + text.replace("'", "''") + "'"
