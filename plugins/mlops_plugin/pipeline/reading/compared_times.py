"""Refuses a query that compares times with the moments of its template otherwise than their order in time.

A text in another form than the printed moment would be missed, or read in two intervals. SQLite has no type
for times: the query is run once with each such comparison checked, for every row that it compares. Any other
engine is asked for the type of what is compared and, if that is text, for a value of another form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.engines.sqlite_times import REFUSED, TimeComparison
from mlops_plugin.databases.engines.text_times import is_right_text
from mlops_plugin.databases.query_scopes import Scope, find_scopes
from mlops_plugin.databases.sql_text import bare
from mlops_plugin.databases.time_comparisons import Comparison, Moments, find_comparisons, is_time
from mlops_plugin.errors import DatabaseError, Problem, QueryError, ServerSilent, UnsupportedType

_SOURCE = "source.query"
_CASTABLE = re.compile(r"\d{4}[-/]\d\d[-/]\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?")  # by every engine
_COMPARED = "mlops_compared"  # the name of the column that is asked for
_DIGITS = re.compile(r"\d+")  # 20260131 is a number to the engine, too
_UNTIMED = {
    "number": (
        "{value} is a number, and so {moment} would be made one, which is none of its time; compare it with "
        "a number ({{{{ data_interval_start.int_timestamp }}}} counts seconds), or a {time} made of it"
    ),
    "clock": (
        "{value} is a time of day, which would be compared with that of {moment} and with no date; compare "
        "it with '{{{{ data_interval_start.strftime(\"%H:%M:%S\") }}}}' if that is meant, or else a {time}"
    ),
}


def require_comparable_times(
    model: ModelConfig, database: Database, query: str, *, at_any_moment: bool = False
) -> None:
    """Raise `QueryError` for a value that compares with a printed moment otherwise than the two times.

    `query` is rendered. `at_any_moment`: also for an interval that begins or ends at the value.
    """
    moments = Moments(model.source.query, model.timezone, at_any_moment)
    if "{" not in moments.template:
        return
    comparisons = find_comparisons(query, database.engine.name, moments)
    checked = query
    for number, comparison in reversed(list(enumerate(comparisons))):
        sql = database.engine.checked_comparison(comparison.text, comparison.sides, number)
        if sql is None:
            _require_comparable_texts(model, database, query, comparisons)
            return
        checked = checked[: comparison.start] + sql + checked[comparison.end :]
    if not comparisons:
        return
    rows = f"(\n{bare(checked, database.engine.name)}\n)"
    if any(comparison.is_selected for comparison in comparisons):  # a count would not make it
        rows = f"(SELECT DISTINCT * FROM {rows})"
    try:
        database.execute(f"SELECT count(*) FROM {rows}")
    except DatabaseError as error:
        refused = REFUSED.search(str(error))
        if refused is None:
            database.describe(query)  # if the query itself is wrong, it is named without what we have added
            raise
        side = comparisons[int(refused["number"])].sides[0]
        finding = _in_words(side, refused["type"], refused["value"].replace("''", "'"))
        raise _refusal(model, finding) from error


def _refusal(model: ModelConfig, finding: str) -> QueryError:
    place = Problem(*model.place_of(_SOURCE), f"models.{model.name}.{_SOURCE}", finding)
    return QueryError(str(place).removeprefix(": "))


def _require_comparable_texts(
    model: ModelConfig, database: Database, query: str, comparisons: Sequence[Comparison]
) -> None:
    """The same on an engine that compares times as times, but texts of times by their characters.

    MySQL makes a number of the moment if the value is one, and MySQL and PostgreSQL a time of day.
    """
    left_out = [comparison.start for comparison in comparisons]
    known: dict[tuple[str, Scope | None], _Untimed | None] = {}
    for comparison in comparisons:
        value = comparison.sides[0].value
        around = [*find_scopes(query, database.engine.name, comparison.start, left_out)]
        place = (value, around[0] if around else None)
        if place not in known:
            known[place] = _untimed(database, value, around)
        compared = known[place]
        sides = [] if compared is None else _sides_of_texts(database, comparison.sides)
        if compared is None or not sides:
            continue
        moment, time = sides[0].moment, database.engine.cast_types[2]
        if compared.kind == "text":
            found = _text_of_another_form(database, compared.scope, compared.value, sides)
            if found is not None:
                remedy = _remedy_of_text(value, found, time)
                finding = f"{value} is text, which is compared with {moment} by its characters"
                raise _refusal(model, f"{finding}, so {found!r} would be missed or read twice; {remedy}")
        elif not all(_DIGITS.fullmatch(side.literal or "") for side in sides):
            raise _refusal(model, _UNTIMED[compared.kind].format(value=value, moment=moment, time=time))


def _remedy_of_text(value: str, found: str, time: str) -> str:
    if _CASTABLE.fullmatch(found):
        return f"compare CAST({value} AS {time}), or keep times in a column of that type"
    # MariaDB's cast passes over an offset, and makes NULL of what it does not understand.
    return f"compare an expression that makes a {time} of such a text, or keep times in a column of that type"


def _sides_of_texts(database: Database, sides: Sequence[TimeComparison]) -> list[TimeComparison]:
    """The sides whose moment is a text, which is found out if an expression makes it.

    Any other moment has a type: the engine converts the value to it, or refuses the query.
    """
    texts = []
    for side in sides:
        if side.literal is not None:
            texts.append(side)
            continue
        try:
            ((made,),) = read_rows(database, f"SELECT {side.moment} AS {_COMPARED}")
        except (DatabaseError, UnsupportedType) as error:
            _go_on(database, error)
        else:
            if isinstance(made, str) and is_time(made):
                texts.append(replace(side, literal=made))
    return texts


@dataclass(frozen=True)
class _Untimed:
    """A value that is no time to the engine, in the innermost SELECT that knows it."""

    scope: Scope
    kind: Literal["text", "number", "clock"]
    value: str


def _untimed(database: Database, value: str, scopes: Sequence[Scope]) -> _Untimed | None:
    for scope in scopes:
        try:
            found = _kind_of(database, scope, value)
        except UnsupportedType as error:
            _go_on(database, error)
            return _untimed_text(database, scope, f"LOWER({value})")
        except DatabaseError as error:
            _go_on(database, error)
        else:
            return None if found is None else _Untimed(scope, found, value)
    return None


def _untimed_text(database: Database, scope: Scope, value: str) -> _Untimed | None:
    """A value in small letters, which only texts have: also one of a type that is not read, as citext."""
    try:
        return _Untimed(scope, "text", value) if _kind_of(database, scope, value) == "text" else None
    except (DatabaseError, UnsupportedType) as error:
        _go_on(database, error)
        return None


def _kind_of(database: Database, scope: Scope, value: str) -> Literal["text", "number", "clock"] | None:
    described = database.describe(scope.select(f"{value} AS {_COMPARED}", ["1 = 0"]))
    kind, types = described.field(0).type, pa.types
    tests: dict[Literal["text", "number", "clock"], tuple[Any, ...]] = {
        "text": (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary),
        "number": (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean),
        "clock": (types.is_time, types.is_duration),
    }
    return next((name for name, are in tests.items() if any(is_one(kind) for is_one in are)), None)


def _text_of_another_form(
    database: Database, scope: Scope, value: str, sides: Sequence[TimeComparison]
) -> str | None:
    wrong = " OR ".join(f"NOT ({is_right_text(side)})" for side in sides)
    least = f"MIN({database.engine.as_text(value)}) AS {_COMPARED}"
    for conditions in (scope.conditions, ()):  # a condition may name what stands around its SELECT
        try:
            rows = read_rows(database, scope.select(least, [*conditions, wrong]))
        except DatabaseError as error:
            _go_on(database, error)
        else:
            return None if rows[0][0] is None else str(rows[0][0])
    return None


def _go_on(database: Database, error: DatabaseError | UnsupportedType) -> None:
    if isinstance(error, ServerSilent):
        raise error
    database.rollback()


def _in_words(side: TimeComparison, kind: str, value: str) -> str:
    found = f"the {kind} {value!r}" if kind != "null" else "a value that SQLite does not read as a time"
    return (
        f"SQLite has no type for times: it compares {side.value} with {side.moment} as text, so {found} "
        "would "
        f"be missed or read twice; {_remedy(side, kind)}"
    )


def _remedy(side: TimeComparison, kind: str) -> str:
    value = side.value
    if kind in ("integer", "real"):
        return (
            f"compare datetime({value}, 'unixepoch') if it counts seconds since 1970, datetime({value}) if "
            "Julian days, with the time in UTC: '{{ data_interval_start.in_timezone('UTC') }}'"
        )
    if kind == "text":
        return (
            f"compare datetime({value}) with '{{{{ data_interval_start }}}}' (in_timezone('UTC') if the "
            "texts have an offset), or days with '{{ data_interval_start.date() }}'; convert texts that are "
            "not ISO times with an expression"
        )
    return "write an expression that converts each value to text like 2026-01-31 06:00:00"
