"""What every open database can do, whichever way in it uses (ODBC, ADBC, DB-API).

The steps of the pipeline, `databases.sink` and `mlops check` work against this protocol only.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from mlops_plugin.errors import DatabaseError

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_plugin.databases.dialects import Dialect
    from mlops_plugin.databases.drivers.odbc.driver_manager import OdbcColumn


class Database(Protocol):
    """One open connection, used by one thread, in one transaction until `commit` or `rollback`.

    As a context manager it rolls back what was not committed, and closes.
    """

    conn_id: str
    dialect: Dialect

    def read(self, query: str, *, batch_rows: int, parameters: Sequence[object] = ()) -> pa.RecordBatchReader:
        """Run a query and stream its rows; every value arrives as stored, or `UnsupportedType` is raised.

        `parameters` fill the query's `?` marks. Memory does not grow with the number of rows. Use the
        reader up, or drop it, before anything else is asked of this database.
        """
        ...

    def describe(self, query: str) -> pa.Schema:
        """The columns a query would return, without fetching its rows.

        Ask before anything is written in this transaction: an engine may have to end it.
        """
        ...

    def begin_snapshot(self) -> None:
        """Roll back, and begin a transaction in which all queries see the same data.

        Raises `DatabaseError` where the engine is not known to have such transactions.
        """

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement that returns no rows."""

    def insert(self, table: str, batches: pa.RecordBatchReader) -> int:
        """Append rows to a table (a quoted name) by column name, in bulk; returns how many."""
        ...

    def columns(self, table: str) -> tuple[str, ...] | None:
        """The column names of a table (a quoted name), or None where there is no such table."""

    def driver_columns(self, table: str) -> Sequence[OdbcColumn]:
        """What an ODBC driver says of a table's columns (a quoted name); nothing by any other way in."""
        ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def read_rows(database: Database, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """A small result, complete."""
    reader = database.read(query, batch_rows=1000, parameters=parameters)
    return [tuple(row.values()) for row in reader.read_all().to_pylist()]


class OpenDatabase:
    """The part of `Database` that is the same for every way in."""

    conn_id: str
    dialect: Dialect

    def begin_snapshot(self) -> None:
        if not self.dialect.snapshot:
            raise DatabaseError(
                self.conn_id,
                "beginning a snapshot",
                f"no way is known to let several queries see the same data on {self.dialect.name}",
            )
        self.rollback()
        for statement in self.dialect.snapshot:
            self.execute(statement)

    def driver_columns(self, table: str) -> Sequence[OdbcColumn]:  # noqa: ARG002 - of the protocol
        return ()

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        raise NotImplementedError

    def rollback(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing a connection rolls back in every engine; a dead server must not hide the first error.
        self.close()
