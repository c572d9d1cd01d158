"""Conditions on a cursor column: the rows from a value on, and those of an interval."""

from __future__ import annotations

from mlops_plugin.databases.engines.engine import CursorValue, Engine
from mlops_plugin.databases.selection import Condition


def from_on(engine: Engine, column: str, value: CursorValue) -> Condition:
    """The rows at or after `value`, and those whose place nobody can tell: whoever reads them must refuse.

    On SQLite a time up to two milliseconds before `value` passes as well.
    """
    return Condition(*engine.at_or_after(engine.quote(column), value))


def between(engine: Engine, column: str, start: CursorValue, end: CursorValue) -> Condition:
    """The rows at or after `start` and before `end`, on SQLite rounded to the millisecond.

    And those whose place nobody can tell, as above.
    """
    return Condition(*engine.within(engine.quote(column), start, end))
