"""How a query around a user's query says the terms of its ORDER BY; `query_parts` asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

OUTER = "selected"  # the name of the user's query within ours
_NOT_REPEATABLE = (exp.AggFunc, exp.Window, exp.Query, exp.Star)


@dataclass(frozen=True)
class Columns:
    """What a query returns: its select list, and whether its tables' columns keep their names in it."""

    items: Sequence[exp.Expr]
    is_compound: bool  # UNION and the like: there, ORDER BY knows output columns only
    has_one_source: bool
    merges_columns: bool  # NATURAL or USING make one column of two

    @classmethod
    def of(cls, tree: exp.Expr) -> Columns:
        first = tree
        while isinstance(first, exp.SetOperation | exp.Subquery):
            first = first.this
        joins = first.args.get("joins") or []
        return cls(
            items=first.expressions,
            is_compound=isinstance(tree, exp.SetOperation),
            has_one_source=not joins and not first.args.get("laterals"),
            merges_columns=any(join.args.get("using") or join.args.get("method") for join in joins),
        )

    @property
    def stars(self) -> Iterator[str]:
        """The table of each star; '' for a bare one."""
        for item in self.items:
            if isinstance(item, exp.Star):
                yield ""
            elif isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
                yield item.table

    def position(self, term: exp.Expr) -> int | None:
        """The place of an item that is `term`, counted from 1; None behind a star, which has many places."""
        if any(True for _ in self.stars):
            return None
        for index, item in enumerate(self.items, 1):
            if item.unalias() == term:
                return index
        return None

    def named(self, name: str) -> list[exp.Expr]:
        return [item for item in self.items if item.alias_or_name.casefold() == name.casefold()]

    def keeps(self, column: exp.Column) -> bool:
        """Whether this column of a table is the output column of the same name."""
        named = self.named(column.name)
        if named:
            found = named[0].unalias()
            if len(named) > 1 or not isinstance(found, exp.Column):
                return False
            is_of_table = found.table.casefold() == column.table.casefold()
            is_same = found.name.casefold() == column.name.casefold()
            return is_same and (self.has_one_source or not column.table or is_of_table)
        if self.merges_columns:
            return False
        return any(
            not star or self.has_one_source or star.casefold() == column.table.casefold()
            for star in self.stars
        )


def term_outside(query: str, text: str, term: exp.Expr, columns: Columns) -> str | None:
    """The SQL by which a query around `query` orders as `term` does; `text` is how the user wrote the term.

    None if only the query itself can: the term needs columns that it does not return.
    """
    if isinstance(term, exp.Literal):
        return text  # a position
    if isinstance(term, exp.Column) and not term.table and (named := columns.named(term.name)):
        return _qualified(text) if len(named) == 1 else None
    if columns.is_compound:
        return None
    if position := columns.position(term):
        return str(position)
    for item in columns.items:
        if isinstance(item, exp.Alias) and item.this == term:
            return _written(query, item.args["alias"])
    if isinstance(term, exp.Column):
        return _written(query, term.this) if columns.keeps(term) else None
    is_plain = not any(term.find_all(*_NOT_REPEATABLE))
    inside = term.find_all(exp.Column)
    return text if is_plain and all(not c.table and columns.keeps(c) for c in inside) else None


def _written(query: str, identifier: exp.Expr) -> str | None:
    """A name as the user wrote it, with its quotes."""
    start, end = identifier.meta.get("start"), identifier.meta.get("end")
    return None if start is None or end is None else _qualified(query[start : end + 1])


def _qualified(name: str) -> str:
    # SQLite takes a quoted name that it does not know for a text; not so one of a table.
    return f"{OUTER}.{name}"
