"""What every open database can do, whichever driver it uses (ODBC, ADBC, DB-API).

The steps of the pipeline, `databases.sink` and `mlops check` work against this protocol only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from mlops_plugin.databases.source_column import SourceColumn
from mlops_plugin.errors import DatabaseError
from mlops_plugin.wait_limits import Limits

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_plugin.connections import ConnectionSpec
    from mlops_plugin.databases.engines.engine import Engine
    from mlops_plugin.databases.engines.table_column import TableColumn
    from mlops_plugin.databases.table_name import TableName


@dataclass(frozen=True)
class ReadOptions:
    """How the rows of a connection are read.

    `max_text_bytes` bounds one text value read over ODBC. `exact_columns` are those whose values must arrive
    as they are stored (keys, cursors); a number that no Arrow type holds for sure may arrive as a double in
    every other column, because a model reads it as one. None: all columns must be exact. `limits` bounds its
    waits.
    """

    max_text_bytes: int = 4096
    exact_columns: frozenset[str] | None = None
    limits: Limits = field(default_factory=Limits)


class Database(Protocol):
    """One open connection, used by one thread, in one transaction until `commit` or `rollback`.

    As a context manager it rolls back what was not committed, and closes.
    """

    conn_id: str
    engine: Engine
    limits: Limits

    @property
    def upserts(self) -> bool:
        """Whether this way in has `upsert`."""
        ...

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

        Raises `DatabaseError` if the engine is not known to have such transactions.
        """

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement that returns no rows."""

    def insert(self, table: TableName, batches: pa.RecordBatchReader) -> int:
        """Append rows to a table by column name, in bulk; returns how many."""
        ...

    def upsert(self, table: TableName, batches: pa.RecordBatchReader, values: Sequence[str]) -> int:
        """`insert`, but a row that breaks a unique key updates the columns `values` of the row that is there.

        If two rows of `batches` have the same key, the last one counts. Returns how many were sent.
        """
        ...

    def columns(self, table: TableName) -> tuple[str, ...] | None:
        """The column names of a table, or None if there is no such table."""

    def declared_columns(self, table: TableName) -> Sequence[TableColumn]:
        """What the driver itself says of a table's columns; empty if it says nothing."""
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

    waits_for_server: ClassVar[bool] = True
    upserts: ClassVar[bool] = False

    def __init__(self, spec: ConnectionSpec, options: ReadOptions, engine: Engine) -> None:
        self.conn_id = spec.conn_id
        self.limits = options.limits
        self.engine = engine
        self._spec = spec
        self._options = options

    def _source_column(self, name: str, type_name: str) -> SourceColumn:
        """A column of a query, to refuse it by name; `type_name` is the engine's own word."""
        exact = self._options.exact_columns
        is_exact = None if exact is None else name in exact
        return SourceColumn(self.conn_id, name, type_name, self.engine, is_exact)

    def begin_snapshot(self) -> None:
        if not self.engine.snapshot:
            raise DatabaseError(
                self.conn_id,
                "beginning a snapshot",
                f"{self.engine.name} is not known to let several queries read one snapshot",
            )
        self.rollback()
        for statement in self.engine.snapshot:
            self.execute(statement)

    def upsert(self, table: TableName, batches: pa.RecordBatchReader, values: Sequence[str]) -> int:
        raise NotImplementedError

    def declared_columns(self, table: TableName) -> Sequence[TableColumn]:  # noqa: ARG002 - of the protocol
        return ()

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        raise NotImplementedError

    def rollback(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def abandon(self) -> None:
        """Most drivers cannot be interrupted."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing a connection rolls back in every engine; a dead server must not hide the first error.
        self.close()
