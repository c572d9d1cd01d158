"""What every database behind an ADBC driver has in common: one cursor at a time, and how it ends."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mlops_plugin.arrow_values import row_of
from mlops_plugin.connections import ConnectionSpec, database_file
from mlops_plugin.databases.database import OpenDatabase, ReadOptions
from mlops_plugin.databases.drivers.driver_errors import driver_errors, load_driver
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.deferred_modules import deferred, hidden
from mlops_plugin.errors import DatabaseError

_NOTHING_TO_ROLL_BACK = re.compile("no transaction is active|no active transaction", re.IGNORECASE)


def load_adbc(spec: ConnectionSpec, module: str, package: str) -> Any:
    """`load_driver`, without what ADBC imports to recognize it: Polars, and Arrow's data sets with pandas."""
    with deferred("pyarrow.dataset"), hidden("polars"):
        return load_driver(spec, module, package)


def bound(parameters: Sequence[object]) -> pa.RecordBatch | None:
    """Parameters as ADBC binds them; None for none."""
    return row_of(parameters) if parameters else None


class AdbcDatabase(OpenDatabase):
    """A result that was not read to its end is closed before anything else is asked."""

    def __init__(self, spec: ConnectionSpec, options: ReadOptions, engine: Engine) -> None:
        super().__init__(spec, options, engine)
        self._error: type[Exception] = load_adbc(spec, "adbc_driver_manager", "adbc-driver-manager").Error
        self._connection: Any = None  # None as long as there is nothing to connect to
        self._reading: Any = None  # the cursor of the reader that was handed out last

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        with contextlib.closing(self._cursor()) as cursor, self._doing("running a statement"):
            self._run(cursor, statement, parameters)

    def commit(self) -> None:
        self._finish_reading()
        if self._connection is not None:
            with self._doing("committing"):
                self._connection.commit()

    def rollback(self) -> None:
        self._finish_reading()
        if self._connection is not None:
            with self._doing("rolling back"):
                self._connection.rollback()

    def close(self) -> None:
        self._finish_reading()
        if self._connection is not None:
            with contextlib.suppress(self._error):
                self._connection.close()

    def _run(self, cursor: Any, statement: str, parameters: Sequence[object]) -> None:
        cursor.execute(statement, bound(parameters))

    def _rows(self, query: str, parameters: Sequence[object], doing: str) -> list[dict[str, Any]]:
        """A small result, complete."""
        with contextlib.closing(self._cursor()) as cursor, self._doing(doing):
            self._run(cursor, query, parameters)
            rows: list[dict[str, Any]] = cursor.fetch_arrow_table().to_pylist()
        return rows

    def _cursor(self) -> Any:
        self._finish_reading()
        return self._connection.cursor()

    def _finish_reading(self) -> None:
        """End a result that was not read to its end."""
        cursor, self._reading = self._reading, None
        if cursor is not None:
            with contextlib.suppress(self._error):
                cursor.close()

    def _doing(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return driver_errors(self._spec, doing, self._error)

    def _reading_rows(self) -> contextlib.AbstractContextManager[None]:
        """What goes wrong after the first rows comes through Arrow's stream, in errors of Arrow's."""
        return driver_errors(self._spec, "reading rows", self._error, OSError, pa.ArrowInvalid)


class AdbcFile(AdbcDatabase):
    """A database that is one file. A file that does not exist is made by the first write only."""

    waits_for_server = False

    def __init__(self, spec: ConnectionSpec, options: ReadOptions, engine: Engine) -> None:
        super().__init__(spec, options, engine)
        self._path = database_file(spec)
        if self._path is None or self._path.exists():
            self._open()

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        self._open()
        super().execute(statement, parameters)

    def rollback(self) -> None:
        try:
            super().rollback()
        except DatabaseError as error:
            # Both have rolled back by themselves, SQLite as it does if the disk is full, DuckDB if a commit
            # has failed. ADBC does not know, and what follows would not be in a transaction.
            if not _NOTHING_TO_ROLL_BACK.search(error.driver_says):
                raise
            with contextlib.closing(self._cursor()) as cursor, self._doing("rolling back"):
                cursor.execute("BEGIN")

    def _open(self) -> None:
        """Connect, unless that is done."""
        raise NotImplementedError

    def _require_file(self, doing: str) -> None:
        if self._connection is None:
            raise DatabaseError(
                self.conn_id, doing, f"there is no file {self._path}; check the path in the connection"
            )
