"""Inserts Arrow's rows by prepared statements, while the server still works on those before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from mlops_plugin.databases.drivers.mysql_protocol.parameters import (
    EncodedRows,
    encode_rows,
    many_executions,
    one_execution,
)
from mlops_plugin.databases.drivers.mysql_protocol.statements import Prepared, Statements

# Of one statement: the protocol numbers its marks with 16 bits, and the server bounds its bytes.
_MOST_MARKS = 2**16 - 1
_MOST_ROWS = 2_000
_MOST_BYTES = 2**22
_MOST_PREPARED = 16  # of one insertion; a server has room for some thousand of all its sessions


@dataclass(frozen=True)
class TableRows:
    """Where rows go: a table and its columns, quoted; `behind` ends the statement, e.g. ON DUPLICATE KEY."""

    table: str
    columns: Sequence[str]
    behind: str = ""

    def statement(self, rows: int) -> str:
        """An INSERT of so many rows."""
        marks = f"({', '.join('?' * len(self.columns))})"
        names, values = ", ".join(self.columns), ", ".join([marks] * rows)
        return f"INSERT INTO {self.table} ({names}) VALUES {values}{self.behind}"


class Insertion:
    """Rows on their way into a table; `is_bulk` if the server has MariaDB's bulk command.

    What the server refuses may be raised by the call after the one that has sent it.
    """

    def __init__(self, statements: Statements, into: TableRows, *, is_bulk: bool) -> None:
        self._statements = statements
        self._into = into
        self._is_bulk = is_bulk
        self._prepared: dict[int, Prepared] = {}  # by how many rows it has marks for

    def add(self, batch: pa.RecordBatch) -> None:
        """Send rows. Raises `ValueError` for a value without a form, and what the server refuses."""
        rows = encode_rows(batch, says_null=self._is_bulk)
        if self._is_bulk:
            for first, behind in _parts(rows, len(rows.is_null)):
                self._statements.execute_each_ahead(self._prepare(1), many_executions(rows, first, behind))
            return
        for first, behind in _parts(rows, min(_MOST_ROWS, _MOST_MARKS // len(self._into.columns))):
            self._statements.execute_ahead(self._prepare(behind - first), one_execution(rows, first, behind))

    def end(self) -> None:
        """Wait until everything is inserted."""
        self._statements.settle()
        for prepared in self._prepared.values():
            self._statements.forget(prepared)

    def _prepare(self, rows: int) -> Prepared:
        if rows not in self._prepared:
            if len(self._prepared) == _MOST_PREPARED:
                self._statements.forget(self._prepared.pop(next(iter(self._prepared))))
            self._prepared[rows] = self._statements.prepare(self._into.statement(rows))
        return self._prepared[rows]


def _parts(rows: EncodedRows, most_rows: int) -> Iterator[tuple[int, int]]:
    """The rows in parts of so many rows and `_MOST_BYTES` at most, or of one row."""
    ends = rows.offsets[1:]
    bounds = [0]
    while bounds[-1] < len(ends):
        fitting = np.searchsorted(ends, rows.offsets[bounds[-1]] + _MOST_BYTES, side="right")
        bounds.append(int(min(max(fitting, bounds[-1] + 1), bounds[-1] + most_rows)))
    return pairwise(bounds)
