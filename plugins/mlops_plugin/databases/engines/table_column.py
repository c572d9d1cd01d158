"""A column of a user's table as its engine or driver declares it; the sink asks what it holds unchanged."""

from __future__ import annotations

from dataclasses import dataclass

UNJUDGED = "unjudged"  # a kind: a type that the driver has no word for
MICROSECONDS = 6  # digits


@dataclass(frozen=True)
class TableColumn:
    """`declared` is the engine's own spelling; the rest decides whether values change.

    Types that hold the same values in the same way share a kind, so that the rules about them stand once.
    """

    name: str
    declared: str
    kind: str  # int, decimal, text, ...; on SQLite an affinity; '' for any other type
    characters: int | None = None  # at most, of a text
    octets: int | None = None  # at most, of bytes or of a text in UTF-8
    digits: int = 0
    scale: int = 0  # digits after the point
    fraction: int = MICROSECONDS  # digits of a second after the point
    members: tuple[str, ...] = ()  # of an enum
    refuses_null: bool = False  # by a constraint, or because the engine computes it of other columns
    compares_bytes: bool = False  # no two texts are equal in it; False: nothing is known of that

    @property
    def shown(self) -> str:
        """For messages: FLOAT, VARCHAR(3)."""
        return self.declared if self.members else self.declared.upper()
