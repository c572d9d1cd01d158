"""SQLite files without ODBC, through ADBC.

SQLite gives every value its own type, and ADBC takes a column's type from the first rows alone. So a
query is looked through once for the types that its values have, and is then read with those types set
by a first row of ours, which is dropped again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.database import ReadOptions
from mlops_plugin.databases.drivers.adbc import AdbcFile, bound, load_adbc
from mlops_plugin.databases.drivers.row_stream import CountedRows, require_names, stream
from mlops_plugin.databases.engines.registry import SQLITE
from mlops_plugin.databases.engines.sqlite import declared_type, stored_type
from mlops_plugin.databases.sql_text import bare, question_marks
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError

_BUSY_TIMEOUT_MS = 10_000
_COLUMNS_AT_ONCE = 900  # two results each, and SQLite returns 2,000 at most
_MADE_UNIQUE = re.compile(r":\d+$")  # what SQLite adds to the second of two equal names
_EXACT_IN_DOUBLE = 2**53
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_WORDS_LOOKED_AT = 1000  # different texts of a column that should be numbers
# Storage classes that a column of one Arrow type may hold, with the value that sets that type.
_TYPES = {"integer": pa.int64(), "real": pa.float64(), "text": pa.string(), "blob": pa.binary()}
_SEEDS = {pa.int64(): "0", pa.float64(): "0.5", pa.string(): "''", pa.binary(): "x''"}


class SqliteDatabase(AdbcFile):
    """A `Database` over adbc_driver_sqlite."""

    def __init__(self, spec: ConnectionSpec, options: ReadOptions) -> None:
        self._connect = load_adbc(spec, "adbc_driver_sqlite.dbapi", "adbc-driver-sqlite").connect
        super().__init__(spec, options, SQLITE)

    def read(self, query: str, *, batch_rows: int, parameters: Sequence[object] = ()) -> pa.RecordBatchReader:
        query = question_marks(bare(query, self.engine.name))
        self._require_file("running the query")
        # The look-through and the read are one transaction, so they see the same rows.
        schema = self._value_types(query, parameters)
        columns = ", ".join(
            f"CAST({name} AS REAL)" if field.type == pa.float64() else name
            for name, field in zip(map(self.engine.enclose, schema.names), schema, strict=True)
        )
        seeds = ", ".join(_SEEDS[field.type] for field in schema)
        cursor = self._reading = self._connection.cursor(
            adbc_stmt_kwargs={"adbc.sqlite.query.batch_rows": batch_rows}
        )
        with self._doing("running the query"):
            cursor.execute(f"SELECT {seeds} UNION ALL SELECT {columns} FROM (\n{query}\n)", bound(parameters))
            reader = cursor.fetch_record_batch()

        def batches() -> Iterator[pa.RecordBatch]:
            with self._reading_rows():
                is_first = True
                for batch in reader:
                    self._require_text(schema.names, batch)
                    yield batch.slice(1) if is_first else batch
                    is_first = False
            self._finish_reading()

        return stream(
            [self._source_column(field.name, str(field.type)) for field in schema],
            schema,
            batches(),
            batch_rows,
        )

    def _require_text(self, names: Sequence[str], batch: pa.RecordBatch) -> None:
        """SQLite stores any bytes as text; what is not UTF-8 would fail later, and elsewhere."""
        for name, column in zip(names, batch.columns, strict=True):
            if pa.types.is_string(column.type):
                try:
                    column.validate(full=True)
                except pa.ArrowInvalid as error:
                    source = self._source_column(name, "text")
                    raise source.refusal(
                        "holds text that is not UTF-8", instead="CAST({0} AS BLOB)"
                    ) from error

    def describe(self, query: str) -> pa.Schema:
        query = bare(query, self.engine.name)
        self._require_file("describing the query")
        self._names(query, ())  # in brackets, equal names are no longer equal
        return self._value_types(f"SELECT * FROM (\n{query}\n) LIMIT 1000", ())

    def insert(self, table: TableName, batches: pa.RecordBatchReader) -> int:
        self._open()
        stored = [pa.field(field.name, stored_type(field.type)) for field in batches.schema]
        rows = CountedRows(batches, pa.schema(stored))
        with contextlib.closing(self._cursor()) as cursor, self._doing(f"writing to {table}"):
            cursor.adbc_ingest(table.name, rows.reader(), mode="append", catalog_name=table.schema)
        return rows.count

    def columns(self, table: TableName) -> tuple[str, ...] | None:
        if self._connection is None:
            return None
        rows = self._rows(
            "SELECT name FROM pragma_table_info(?, ?) ORDER BY cid",
            (table.name, table.schema or "main"),
            f"looking at {table}",
        )
        return tuple(row["name"] for row in rows) or None

    def _open(self) -> None:
        if self._connection is not None:
            return
        with self._doing("connecting"), contextlib.ExitStack() as undo:
            self._connection = self._connect(_uri(self._spec, self._path))
            undo.callback(self._connection.close)
            with contextlib.closing(self._cursor()) as cursor:
                cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
                cursor.fetchall()
                cursor.execute(
                    "SELECT count(*) FROM sqlite_schema"
                )  # a file that is no database says so here
                cursor.fetchall()
            self._connection.rollback()
            undo.pop_all()

    def _value_types(self, query: str, parameters: Sequence[object]) -> pa.Schema:
        """The Arrow type of each column that holds every value of it."""
        names = self._names(query, parameters)
        extremes: list[tuple[str | None, str | None]] = []
        for start in range(0, len(names), _COLUMNS_AT_ONCE):
            extremes += self._extreme_types(query, parameters, names[start : start + _COLUMNS_AT_ONCE])
        declared = None
        fields = []
        for name, (low, high) in zip(names, extremes, strict=True):
            if low is None or high is None:
                declared = self._declared_types(query, parameters) if declared is None else declared
                arrow_type = declared.get(name, pa.int64())
            elif low == high:
                arrow_type = _TYPES[low]
            else:
                arrow_type = self._mixed_type(query, parameters, name, low, high)
            fields.append(pa.field(name, arrow_type))
        return pa.schema(fields)

    def _extreme_types(
        self, query: str, parameters: Sequence[object], names: Sequence[str]
    ) -> list[tuple[str | None, str | None]]:
        """The least and the greatest storage class of each column; None without a value."""
        # 'blob' < 'integer' < 'real' < 'text': the least and the greatest tell which there are. DISTINCT
        # first: combinations are few, and so this costs a third of comparing the types of every row.
        kinds = ", ".join(
            f"typeof({self.engine.enclose(name)}) AS k{index}" for index, name in enumerate(names)
        )
        extremes = ", ".join(
            f"min(nullif(k{index}, 'null')) AS low{index}, max(nullif(k{index}, 'null')) AS high{index}"
            for index in range(len(names))
        )
        (found,) = self._rows(
            f"SELECT {extremes} FROM (SELECT DISTINCT {kinds} FROM (\n{query}\n))",
            parameters,
            "running the query",
        )
        return [(found[f"low{index}"], found[f"high{index}"]) for index in range(len(names))]

    def _names(self, query: str, parameters: Sequence[object]) -> list[str]:
        with contextlib.closing(self._cursor()) as cursor, self._doing("running the query"):
            cursor.execute(f"SELECT * FROM (\n{query}\n) LIMIT 0", bound(parameters))
            names = [column[0] for column in cursor.description]
        try:
            require_names(self.conn_id, (_MADE_UNIQUE.sub("", self.engine.fold(name)) for name in names))
        except DatabaseError:
            # `a:1` may be the column's own name: the query by itself has all names as it says them.
            require_names(self.conn_id, map(self.engine.fold, self._own_names(query, parameters)))
        return names

    def _own_names(self, query: str, parameters: Sequence[object]) -> list[str]:
        self._finish_reading()
        # Of one row, from which ADBC takes the types.
        one_row = {"adbc.sqlite.query.batch_rows": 1}
        with (
            contextlib.closing(self._connection.cursor(adbc_stmt_kwargs=one_row)) as cursor,
            self._doing("running the query"),
        ):
            cursor.execute(query, bound(parameters))
            return [column[0] for column in cursor.description]

    def _mixed_type(self, query: str, parameters: Sequence[object], name: str, low: str, high: str) -> Any:
        if (low, high) != ("integer", "real"):
            source = self._source_column(name, f"{low} and {high}")
            words = self._texts_among_numbers(query, parameters, name) if high == "text" else []
            if words and source.is_exact is not True:
                place = self._place_of_word(query, parameters, name, words[0])
                raise source.refusal_of_texts(words, place)
            raise source.refusal("has no single type", is_number=True)
        quoted = self.engine.enclose(name)
        (found,) = self._rows(
            f"SELECT max(abs({quoted})) AS largest FROM (\n{query}\n) WHERE typeof({quoted}) = 'integer'",
            parameters,
            "running the query",
        )
        if found["largest"] > _EXACT_IN_DOUBLE:
            raise self._source_column(name, "integer and real").refusal(
                f"holds the integer {found['largest']}, which no double holds exactly",
                is_number=True,
            )
        return pa.float64()

    def _texts_among_numbers(self, query: str, parameters: Sequence[object], name: str) -> list[str]:
        """Texts of the column that are no numbers: SQLite's CAST would make 0 of each."""
        quoted = self.engine.enclose(name)
        found = self._rows(
            f"SELECT DISTINCT CAST({quoted} AS TEXT) AS word FROM (\n{query}\n)"
            f" WHERE typeof({quoted}) = 'text' LIMIT {_WORDS_LOOKED_AT}",
            parameters,
            "running the query",
        )
        return [row["word"] for row in found if not _NUMBER.fullmatch(row["word"])]

    def _place_of_word(self, query: str, parameters: Sequence[object], name: str, word: str) -> str:
        """Key and cursor of the first row with this text in the column, e.g. `id 4`; '' without a key."""
        exact = self._options.exact_columns or frozenset()
        names = [column for column in self._names(query, parameters) if column in exact]
        if not names:
            return ""
        (row,) = self._rows(
            f"SELECT {', '.join(map(self.engine.enclose, names))} FROM (\n{query}\n)"
            f" WHERE {self.engine.enclose(name)} = ? LIMIT 1",
            (*parameters, word),
            "running the query",
        )
        return ", ".join(f"{column} {value}" for column, value in row.items())

    def _declared_types(self, query: str, parameters: Sequence[object]) -> dict[str, pa.DataType]:
        """For columns without a value: what their table declares, by SQLite's rules of affinity."""
        if parameters:
            return {}
        view = '"temp"."mlops_described"'
        with contextlib.closing(self._cursor()) as cursor, self._doing("describing the query"):
            cursor.execute(f"CREATE TEMP VIEW mlops_described AS SELECT * FROM (\n{query}\n)")
            cursor.execute("SELECT name, type FROM pragma_table_info('mlops_described', 'temp')")
            rows = cursor.fetch_arrow_table().to_pylist()
            cursor.execute(f"DROP VIEW {view}")
        return {row["name"]: declared_type(row["type"]) for row in rows}


def _uri(spec: ConnectionSpec, path: Path | None) -> str:
    if path is None:
        return ":memory:"
    mode = f"?mode={spec.extra['mode']}" if "mode" in spec.extra else ""
    return f"file:{quote(str(path.absolute()))}{mode}"
