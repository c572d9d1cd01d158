"""Moves an interval's printed end out of an hour that comes twice, for times without a zone.

When clocks go back, a local time stands for two moments. An interval that ends at the first would miss rows
that get an earlier local time afterwards, and another one would read rows twice. So such an end is printed as
the start of the hour, in the interval that ends there and in the one that begins there: the next end that
comes only once, or for the second time, reads the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa

from mlops_plugin.databases.database import Database
from mlops_plugin.databases.engines.sqlite_times import TimeComparison
from mlops_plugin.databases.moments import holds_instants
from mlops_plugin.databases.query_scopes import find_scopes
from mlops_plugin.databases.time_comparisons import Moments, find_comparisons
from mlops_plugin.errors import DatabaseError, ServerSilent, UnsupportedType
from mlops_plugin.pipeline.dispatch import Dispatch

_FLIPPED = {"<": ">", "<=": ">", ">": "<", ">=": "<"}
_COMPARED = "mlops_compared"  # the name of the column that is asked for
_PRECISION = timedelta(seconds=1)


def without_repeated_hours(dispatch: Dispatch, database: Database, query: str) -> str:
    """`query`, rendered, with the ends of the interval where times without a zone are compared with them.

    An interval that somebody has typed in the terminal is left as it is: its times are the local ones.
    """
    model, interval = dispatch.model, dispatch.data_interval
    if interval is None or (dispatch.origin == "terminal" and dispatch.reads_own_interval):
        return query
    moved: dict[str, tuple[str, str]] = {}
    for operator, end in zip("><", interval, strict=True):
        local = end.astimezone(ZoneInfo(model.timezone))
        if (start := start_of_repetition(local)) is not None:
            moved[operator] = database.engine.write_time(local), database.engine.write_time(start)
    if not moved:
        return query
    engine = database.engine.name
    comparisons = find_comparisons(query, engine, Moments(model.source.query, model.timezone))
    left_out = [comparison.start for comparison in comparisons]
    changed = query
    for comparison in reversed(comparisons):
        text = comparison.text
        for side in comparison.sides:
            if (move := _move_of(side, moved)) and _is_local(
                database, query, side, comparison.start, left_out
            ):
                text = text.replace(side.moment, side.moment.replace(*move), 1)
        changed = changed[: comparison.start] + text + changed[comparison.end :]
    return changed


def start_of_repetition(local: datetime) -> datetime | None:
    """The start of the times that come twice, for an aware time that is one and comes again; else None."""
    before, after = local.utcoffset(), local.replace(fold=1).utcoffset()
    if local.fold or before is None or after is None or before <= after:
        return None
    early = local.astimezone(UTC).replace(microsecond=0)
    late = early + (before - after)
    while late - early > _PRECISION:  # the clocks go back at `late`
        middle = (early + (late - early) / 2).replace(microsecond=0)
        if middle.astimezone(local.tzinfo).utcoffset() == after:
            late = middle
        else:
            early = middle
    return (late + after).replace(tzinfo=local.tzinfo)


def _move_of(side: TimeComparison, moved: Mapping[str, tuple[str, str]]) -> tuple[str, str] | None:
    """What is printed in a lower or an upper limit, and what is to stand there."""
    operator = _FLIPPED.get(side.operator) if side.is_moment_left else side.operator[:1]
    move = moved.get(operator or "") if side.operator in _FLIPPED else None
    return move if move is not None and move[0] in side.moment else None


def _is_local(database: Database, query: str, side: TimeComparison, start: int, left_out: list[int]) -> bool:
    """Whether what is compared has times without a zone; False also if the database does not say."""
    if database.engine.values_have_types:  # SQLite's are texts of times
        return True
    for scope in find_scopes(query, database.engine.name, start, left_out):
        try:
            described = database.describe(scope.select(f"{side.value} AS {_COMPARED}", ["1 = 0"]))
        except (DatabaseError, UnsupportedType) as error:
            if isinstance(error, ServerSilent):
                raise
            database.rollback()
            continue
        field = described.field(0)
        return pa.types.is_timestamp(field.type) and field.type.tz is None and not holds_instants(field)
    return False
