"""Refuses a query that compares times with the moments of its template otherwise than their order in time.

Only SQLite has no type for times: a text in another form than the printed moment would be missed, or read in
two intervals. The query is run once with each such comparison checked, for every row that it compares.
"""

from __future__ import annotations

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.engines.sqlite_times import REFUSED, TimeComparison
from mlops_plugin.databases.sql_text import bare
from mlops_plugin.databases.time_comparisons import Moments, find_comparisons
from mlops_plugin.errors import DatabaseError, Problem, QueryError

_SOURCE = "source.query"


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
        said = _in_words(side, refused["type"], refused["value"].replace("''", "'"))
        place = Problem(*model.place_of(_SOURCE), f"models.{model.name}.{_SOURCE}", said)
        raise QueryError(str(place).removeprefix(": ")) from error


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
