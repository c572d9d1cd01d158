"""Reads a query's rows in pages: ranges of a column, one after the other, all from one snapshot.

A driver that keeps a whole result in memory then keeps only a page. The width of each range depends on how
many rows the last one had, so gaps and clusters of values still give pages of about the same size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from mlops_plugin.config.schema import PagesConfig
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.selection import Condition, narrowed
from mlops_plugin.errors import DatabaseError
from mlops_plugin.pipeline.reading.ranges import as_numbers, ends_of, require_columns, value_of

_MOST_GROWTH = 8  # how many times as wide as the page before
_FIRST_PART = 64  # the first page is this fraction of the range, if values are not row numbers
_INSTEAD = "name another column"


def read_in_pages(
    database: Database,
    query: str,
    conditions: Sequence[Condition],
    pages: PagesConfig,
    path: str,
    batch_rows: int,
) -> pa.RecordBatchReader:
    """The rows of `query` that meet all conditions.

    Ends the database's transaction and begins a new one. Raises the same errors as `plan_pages`.
    """
    bounds = plan_pages(database, query, conditions, pages, path)

    def next_page() -> pa.RecordBatchReader:
        statement, parameters = narrowed(query, [*conditions, *bounds.next_page()], database.engine.name)
        return database.read(statement, batch_rows=batch_rows, parameters=parameters)

    first = next_page()

    def rows() -> Iterator[pa.RecordBatch]:
        page = first
        while True:
            count = 0
            for batch in page:
                count += batch.num_rows
                yield batch
            if bounds.at_end:
                return
            bounds.see(count)
            page = next_page()
            if page.schema != first.schema:
                raise DatabaseError(
                    database.conn_id, "reading rows", "two pages have columns of different types"
                )

    return pa.RecordBatchReader.from_batches(first.schema, rows())


def plan_pages(
    database: Database, query: str, conditions: Sequence[Condition], pages: PagesConfig, path: str
) -> PageBounds:
    """Begin a snapshot and find the ends of the column; `path` is the path of `pages` in the configuration.

    Raises `PartitionError` if the query lacks the column or its type has no ranges, and `DatabaseError` if
    the engine has no snapshots.
    """
    path = f"{path}.column"
    columns = database.describe(query)
    require_columns([pages.column], columns.names, path)
    database.begin_snapshot()
    statement, parameters = narrowed(query, conditions, database.engine.name)
    arrow_type = columns.field(pages.column).type
    ends = ends_of(database, statement, pages.column, arrow_type, parameters)
    quoted = database.engine.quote(pages.column)
    return PageBounds(quoted, *ends, pages.rows, f"{path}: '{pages.column}'")


class PageBounds:
    """The conditions of one page after the other: each row meets those of exactly one page.

    `column` is quoted. NULL and values below `least` belong to the first page, values above `greatest` to
    the last: the two ends only decide how many pages there are.
    """

    def __init__(self, column: str, least: Any, greatest: Any, rows: int, what: str) -> None:
        self.at_end = False
        self._column = column
        self._like = least
        self._rows = rows
        first, self._last = (0, 0) if least is None else as_numbers(least, greatest, what, _INSTEAD)
        self._end = first  # of the page before
        self._is_first = True
        # Integers often number the rows: then this is the right width.
        self._width = rows if isinstance(least, int) else max(1, (self._last - first) // _FIRST_PART)

    def next_page(self) -> list[Condition]:
        """The conditions of the next page; none if it holds all rows."""
        begin, self._end = self._end, self._end + self._width
        was_first, self._is_first = self._is_first, False
        self.at_end = self._end > self._last
        column = self._column
        lower = [] if was_first else [Condition(f"{column} >= ?", (value_of(begin, self._like),))]
        if self.at_end:
            return lower
        or_null = f" OR {column} IS NULL" if was_first else ""
        return [*lower, Condition(f"{column} < ?{or_null}", (value_of(self._end, self._like),))]

    def see(self, rows: int) -> None:
        """Take the number of rows of the last page into account: the next becomes wider or narrower."""
        widest = self._width * _MOST_GROWTH
        wanted = self._width * self._rows // rows if rows else widest
        self._width = max(1, min(wanted, widest))
