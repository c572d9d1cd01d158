"""Reads a query's rows in pages: ranges of a column, one after the other, all from one snapshot.

A driver that holds a whole result in the client then holds a page. How wide the next range is follows from
how many rows the last one had, so gaps and crowds of values make pages of about the same size.
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
_FIRST_PART = 64  # the first page is this part of the range, where values are no numbers of rows
_INSTEAD = "name another column"


def read_in_pages(
    database: Database,
    query: str,
    conditions: Sequence[Condition],
    pages: PagesConfig,
    path: str,
    batch_rows: int,
) -> pa.RecordBatchReader:
    """The rows of `query` for which all conditions hold.

    Ends the database's transaction and begins one of its own. Raises as `plan_pages` does.
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
    """Begin a snapshot and find the ends of the column; `path` is where the configuration has the pages.

    Raises `PartitionError` for a column that the query does not have, or that has no ranges, and
    `DatabaseError` where the engine has no snapshots.
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
    """The conditions of one page after the other: for each row, that of one page holds.

    `column` is quoted. NULLs and what lies before `least` are on the first page, what lies behind
    `greatest` on the last one: nothing depends on the ends but how many pages there are.
    """

    def __init__(self, column: str, least: Any, greatest: Any, rows: int, what: str) -> None:
        self.at_end = False
        self._column = column
        self._like = least
        self._rows = rows
        first, self._last = (0, 0) if least is None else as_numbers(least, greatest, what, _INSTEAD)
        self._end = first  # of the page before
        self._is_first = True
        # Whole numbers are often given to one row each: then this is the width wanted.
        self._width = rows if isinstance(least, int) else max(1, (self._last - first) // _FIRST_PART)

    def next_page(self) -> list[Condition]:
        """What is true of the rows on the next page; nothing where all rows are on it."""
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
        """Learn how many rows the page had; the next one is made wider or narrower by it."""
        widest = self._width * _MOST_GROWTH
        wanted = self._width * self._rows // rows if rows else widest
        self._width = max(1, min(wanted, widest))
