"""Row limits inside of a query that decide which rows it returns; `query_parts` asks.

What reads a part of a query's rows (a cursor, for one) chooses among those that such a limit has left.
Harmless are limits whose rows only lend a value to others: scalar subqueries, EXISTS, LATERAL and APPLY, the
right side of a LEFT JOIN, and one row beside other tables.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect


def find_nested_limit(tree: exp.Expr, dialect: Dialect) -> str | None:
    """The limit of a query below `tree` that cuts off rows of `tree`, for people; None if there is none."""
    for query in tree.find_all(exp.Query):
        if query is not tree and limits_rows(query) and _cuts(query, tree, is_one_row=_is_one_row(query)):
            limit = query.args.get("limit") or query.args["offset"]
            return str(limit.sql(dialect)).strip()
    return None


def limits_rows(query: exp.Expr) -> bool:
    """Whether a query has a LIMIT, TOP, FETCH or OFFSET of its own that can leave rows out."""
    limit, offset = query.args.get("limit"), query.args.get("offset")
    if offset is not None and offset.expression.sql() != "0":
        return True
    if limit is None:
        return False
    options = limit.args.get("limit_options")
    count = _count(limit)
    if options is not None and options.args.get("percent"):
        return count is None or count.sql() != "100"  # TOP 100 PERCENT: a habit of SQL Server's users
    return count is None or count.sql().upper() not in ("ALL", "NULL")


def _count(limit: exp.Expr) -> exp.Expr | None:
    return limit.args.get("expression") or limit.args.get("count")


def _cuts(query: exp.Expr, whole: exp.Expr, *, is_one_row: bool) -> bool:
    """Whether rows that `query` leaves out can be rows that `whole` leaves out."""
    if query is whole:
        return True
    around = query.parent
    match around:
        case exp.Subquery() if not _is_operand(around):
            return _cuts_as_table(around, whole, is_one_row=is_one_row)
        case exp.CTE():
            uses = list(_uses(around))
            return any(_cuts_as_table(use, whole, is_one_row=is_one_row) for use in uses)
        case exp.SetOperation():
            return _cuts(around, whole, is_one_row=False)
        case exp.In() | exp.Any() | exp.All():
            return _encloses(around, whole, is_one_row=is_one_row)
        case exp.Subquery() if isinstance(around.parent, exp.In | exp.Any | exp.All):
            return _encloses(around.parent, whole, is_one_row=is_one_row)
    return False  # a value, EXISTS, LATERAL: their limit is for each row of another table


def _encloses(place: exp.Expr, whole: exp.Expr, *, is_one_row: bool) -> bool:
    """Of IN and the like: among many values, those that are cut off leave rows out."""
    outer = place.find_ancestor(exp.Query)
    return not is_one_row and outer is not None and _cuts(outer, whole, is_one_row=_is_one_row(outer))


def _cuts_as_table(table: exp.Expr, whole: exp.Expr, *, is_one_row: bool) -> bool:
    """The same for a derived table, or for where a CTE is used."""
    place = table.parent
    if isinstance(place, exp.SetOperation):
        return _cuts(place, whole, is_one_row=False)
    if isinstance(place, exp.Subquery):  # brackets within brackets
        return _cuts_as_table(place, whole, is_one_row=is_one_row)
    if isinstance(place, exp.Lateral) or not isinstance(place, exp.From | exp.Join):
        return table is not whole and isinstance(place, exp.Query) and _cuts(place, whole, is_one_row=False)
    outer = place.parent
    if not isinstance(outer, exp.Query):
        return True
    is_beside_others = isinstance(place, exp.Join) or bool(outer.args.get("joins"))
    is_looked_up = isinstance(place, exp.Join) and str(place.args.get("side") or "").upper() == "LEFT"
    if is_looked_up or (is_one_row and is_beside_others):
        return False
    return _cuts(outer, whole, is_one_row=_is_one_row(outer))


def _uses(cte: exp.CTE) -> Iterator[exp.Expr]:
    """Where the query of a WITH names one of its tables."""
    holder = cte.find_ancestor(exp.Query)
    for table in holder.find_all(exp.Table) if holder is not None else ():
        if not table.db and table.name.casefold() == cte.alias.casefold() and not _is_within(table, cte):
            yield table


def _is_within(node: exp.Expr, other: exp.Expr) -> bool:
    above: exp.Expr | None = node
    while above is not None and above is not other:
        above = above.parent
    return above is other


def _is_operand(subquery: exp.Subquery) -> bool:
    """Whether a subquery stands where a value is expected."""
    return not isinstance(
        subquery.parent, exp.From | exp.Join | exp.SetOperation | exp.Subquery | exp.CTE | exp.Query
    )


def _is_one_row(query: exp.Expr) -> bool:
    """Whether a query has exactly one row, or at most one: LIMIT 1, or an aggregate of everything."""
    limit = query.args.get("limit")
    if limit is not None and (count := _count(limit)) is not None and count.sql() == "1":
        options = limit.args.get("limit_options")
        return options is None or not (options.args.get("percent") or options.args.get("with_ties"))
    if not isinstance(query, exp.Select) or query.args.get("group"):
        return False
    return any(
        not isinstance(found.parent, exp.Window) and found.find_ancestor(exp.Select) is query
        for item in query.expressions
        for found in item.find_all(exp.AggFunc)
    )
