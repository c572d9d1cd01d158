"""What SQL itself defines, and every question that an engine must answer; an engine overrides what differs.

The drivers, the sink, the pipeline and the Showroom ask these methods. No other module compares an
engine's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, ClassVar, Literal

import pyarrow as pa

from mlops_plugin.databases.engines.arrow_kinds import digits_of, kind_of
from mlops_plugin.databases.engines.merge import Merge
from mlops_plugin.databases.moments import utc_naive
from mlops_plugin.errors import SinkError, UnsupportedType

if TYPE_CHECKING:
    from mlops_plugin.databases.database import Database
    from mlops_plugin.databases.engines.sqlite_times import TimeComparison
    from mlops_plugin.databases.engines.table_column import TableColumn
    from mlops_plugin.databases.table_name import TableName

CursorValue = int | date | datetime
Right = Literal["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "TEMPORARY"]
IndexColumn = tuple[object, str | None, bool]  # index, column, whether the engine generates its values
_BEYOND_BMP = 0xFFFF


class Engine:
    """Standard SQL. Used as it is for an engine behind ODBC that we do not know.

    Names are always quoted, so an engine keeps the case that the configuration writes.
    """

    name: ClassVar[str] = "ansi"
    parser: ClassVar[str | None] = None  # what sqlglot calls it
    is_experimental: ClassVar[bool] = False  # its SQL was never run on a real server of the engine

    # Names
    opening: ClassVar[str] = '"'
    closing: ClassVar[str] = '"'
    name_limit: ClassVar[int] = 128
    limit_counts_bytes: ClassVar[bool] = False
    names_beyond_bmp: ClassVar[bool] = True
    ignores_case: ClassVar[bool] = False  # of column names, even quoted ones

    # Values
    column_types: ClassVar[Mapping[str, str]] = {  # kind of value (see `kind_of`) -> column type
        "int8": "SMALLINT",
        "int16": "SMALLINT",
        "int32": "INTEGER",
        "int64": "BIGINT",
        "bool": "BOOLEAN",
        "float32": "REAL",
        "float64": "DOUBLE PRECISION",
        "decimal": "DECIMAL({precision},{scale})",
        "text": "VARCHAR(4000)",
        "key_text": "VARCHAR(255)",
        "binary": "VARBINARY(4000)",
        "key_binary": "VARBINARY(255)",
        "date": "DATE",
        "time": "TIME(6)",
        "timestamp": "TIMESTAMP(6)",
        "timestamp_utc": "TIMESTAMP(6)",
    }
    max_precision: ClassVar[int] = 38  # digits of a decimal
    stores_nan: ClassVar[bool] = False
    stores_infinity: ClassVar[bool] = False
    stores_nul: ClassVar[bool] = False  # a character of code 0 in a text, at which drivers end it
    values_have_types: ClassVar[bool] = False  # each value has its own type, whatever its column declares
    trims_char: ClassVar[bool] = False  # a CHAR(n) loses blanks at its end; others are filled up with them
    folds_enum: ClassVar[bool] = False  # an ENUM takes 'A' for its member 'a'
    cast_types: ClassVar[tuple[str, str, str, str]] = (  # of an integer, a date, a time, a time with zone
        "BIGINT",
        "DATE",
        "TIMESTAMP(6)",
        "TIMESTAMP(6) WITH TIME ZONE",
    )
    double_type: ClassVar[str] = "DOUBLE PRECISION"  # in a CAST
    text_type: ClassVar[str] = "VARCHAR(4000)"  # in a CAST

    # Queries
    orders_subqueries: ClassVar[bool] = True  # takes an ORDER BY without a limit in a subquery
    has_limit: ClassVar[bool] = False  # LIMIT, which needs no ORDER BY
    null_order: ClassVar[Literal["least", "greatest"] | None] = None  # how NULL sorts; None: not known
    like_wildcards: ClassVar[str] = "%_"
    # Statements that begin a transaction in which all queries see the same data; none: not known.
    snapshot: ClassVar[tuple[str, ...]] = ()
    # Lets times with a zone come in UTC, and all rows come, whatever the server or the user is set to.
    session_settings: ClassVar[str | None] = None
    session_zone_query: ClassVar[str | None] = None  # finds the time zone that a session begins in
    is_file: ClassVar[bool] = False  # a database is one
    default_port: ClassVar[int | None] = None
    databases_are_schemas: ClassVar[bool] = False  # a connection to one reaches the tables of others

    # Tables
    table_options: ClassVar[str] = ""  # ends a CREATE TABLE
    supports_upsert: ClassVar[bool] = False
    keys_stage: ClassVar[bool] = False  # an upsert's temporary table gets the key as its primary key
    stores_narrow_rows: ClassVar[bool] = False  # a new sink is a view: see `sink.narrow_rows`
    replaces_views: ClassVar[bool] = True  # CREATE OR REPLACE VIEW, which may add columns at the end

    def write_time(self, value: datetime) -> str:
        """A time as a query's text compares it rightly with a column of times without a zone.

        Without offset: SQLite compares texts, MySQL would turn an offset into the session's time zone, and
        MariaDB takes it for a mistake.
        """
        return self.as_plain(value).replace(tzinfo=None).isoformat(" ")

    def as_plain(self, value: datetime) -> datetime:
        """The same time as one of Python's own: a subclass may write itself in another form."""
        year, month, day, hour, minute, second = value.timetuple()[:6]
        return datetime(
            year, month, day, hour, minute, second, value.microsecond, tzinfo=value.tzinfo, fold=value.fold
        )

    def quote(self, identifier: str) -> str:
        """One name, quoted. Raises `SinkError` for a name that the engine would refuse or cut short."""
        length = self._length(identifier)
        if not identifier or "\0" in identifier:
            raise SinkError(f"{identifier!r} is not a name of a table or column: it is empty or holds a NUL")
        if length > self.name_limit:
            unit = "bytes" if self.limit_counts_bytes else "characters"
            raise SinkError(
                f"the name {identifier!r} has {length} {unit}; {self.name} allows {self.name_limit}"
            )
        if not self.names_beyond_bmp and any(ord(character) > _BEYOND_BMP for character in identifier):
            raise SinkError(
                f"the name {identifier!r} holds a character that {self.name} does not allow in names"
            )
        return self.enclose(identifier)

    def takes_name(self, identifier: str) -> bool:
        """Whether a name is short enough."""
        return self._length(identifier) <= self.name_limit

    def _length(self, identifier: str) -> int:
        return len(identifier.encode() if self.limit_counts_bytes else identifier)

    def enclose(self, identifier: str) -> str:
        """Quote a name that the engine gave us: a query's column may have a longer one than a table's."""
        return self.opening + identifier.replace(self.closing, self.closing * 2) + self.closing

    def fold(self, identifier: str) -> str:
        """A column name in the form in which this engine compares it with others."""
        return identifier.casefold() if self.ignores_case else identifier

    def fold_table(self, identifier: str) -> str:
        """A table's name in the form in which this engine compares it with others."""
        return identifier

    @property
    def keeps_time_zone(self) -> bool:
        """Whether a time's zone has a place in the table; if not, UTC is written without it."""
        return self.column_types["timestamp_utc"] != self.column_types["timestamp"]

    def column_type(self, arrow_type: pa.DataType, *, is_key: bool) -> str:
        """The column type that holds every value of an Arrow type; `is_key`: an index must take it.

        Raises `UnsupportedType` if the engine has none.
        """
        kind = kind_of(arrow_type)
        if is_key:
            kind = {"text": "key_text", "binary": "key_binary"}.get(kind, kind)
        if kind not in self.column_types:
            raise UnsupportedType(
                f"{self.name} has no column type for {arrow_type}; cast it in the query, e.g. to text"
            )
        if kind != "decimal":
            return self.column_types[kind]
        precision, scale = digits_of(arrow_type)
        if not 0 <= scale <= precision <= self.max_precision:
            raise UnsupportedType(
                f"{self.name} has no decimal of {precision} digits, {scale} of them after the "
                f"decimal point (at most {self.max_precision}); cast it in the query, e.g. to text"
            )
        return self.column_types[kind].format(precision=precision, scale=scale)

    def index_types(self, arrow_types: Sequence[pa.DataType]) -> list[str]:
        """The column types of the columns of one index, so that the index takes them all together.

        Raises `SinkError` if no types do, `UnsupportedType` as `column_type` does.
        """
        return [self.column_type(arrow_type, is_key=True) for arrow_type in arrow_types]

    def limit(self, rows: int) -> str:
        """The end of a query with ORDER BY that returns its first rows."""
        return f"LIMIT {rows:d}" if self.has_limit else f"OFFSET 0 ROWS FETCH FIRST {rows:d} ROWS ONLY"

    def any_rows(self, rows: int) -> str:
        """The end of a query without ORDER BY that returns some of its rows."""
        return self.limit(rows) if self.has_limit else f"ORDER BY 1 {self.limit(rows)}"

    def exact_text(self, value: str) -> str:
        """SQL for the text of a value of any type, with no digit lost."""
        return self.as_text(value)

    def as_text(self, value: str) -> str:
        """SQL for the text of a value, to search in."""
        return f"CAST({value} AS {self.text_type})"

    def as_label(self, value: str) -> str:
        """SQL that makes a text of a member of an ENUM, so that it is sorted as it is compared."""
        return self.as_text(value)

    def binary_literal(self, value: bytes) -> str:
        """SQL for bytes."""
        return f"X'{value.hex()}'"

    def as_double(self, value: str) -> str:
        """SQL for a number as a double, rounded if need be."""
        return f"CAST({value} AS {self.double_type})"

    def row_hash(self, columns: Sequence[str], count: int) -> str | None:
        """SQL for a number from 0 to `count` - 1, always the same for the same values of (quoted) columns.

        NULL counts as a value. None if no hash function of the engine is known.
        """
        del columns, count
        return None

    def typed_mark(self, value: CursorValue) -> tuple[str, str]:
        """A parameter mark cast to the value's type, and the text that fills it.

        Values travel as text and the engine casts them: a driver that takes every parameter for text would
        otherwise compare a large integer as a float, or a time without its microseconds.
        """
        integer, day, time, time_with_zone = self.cast_types
        if isinstance(value, int):
            return f"CAST(? AS {integer})", str(value)
        if not isinstance(value, datetime):
            return f"CAST(? AS {day})", value.isoformat()
        text = utc_naive(value).isoformat(" ", "microseconds")
        if value.tzinfo is None:
            return f"CAST(? AS {time})", text
        return f"CAST(? AS {time_with_zone})", text + "+00:00"

    def at_or_after(self, column: str, value: CursorValue) -> tuple[str, tuple[object, ...]]:
        """The condition that a (quoted) column is at or after a value, or that nobody can tell."""
        mark, text = self.typed_mark(value)
        return f"{column} >= {mark} OR {column} IS NULL", (text,)

    def within(self, column: str, start: CursorValue, end: CursorValue) -> tuple[str, tuple[object, ...]]:
        """The condition that a (quoted) column is from `start` on and before `end`, or nobody can tell."""
        (first_mark, first), (end_mark, last) = self.typed_mark(start), self.typed_mark(end)
        return f"{column} >= {first_mark} AND {column} < {end_mark} OR {column} IS NULL", (first, last)

    def checked_comparison(self, comparison: str, sides: Sequence[TimeComparison], number: int) -> str | None:
        """SQL that is a comparison with a moment, but fails for the first value that compares wrongly.

        None: times have types of their own, so only texts may compare wrongly. `comparison` is the text
        whose comparisons `sides` are (two in a BETWEEN); the failure says `number`.
        """
        del comparison, sides, number
        return None

    def alteration(self, table: str, column: str, wanted: str, view: str | None = None) -> str:
        """What to do so that a (quoted) column of a (quoted) table has another type.

        `view`: one that shows the column, and that a dispatch makes again if it is missing.
        """
        del table, view
        return f"change it to {column} {wanted}, or this engine's name for that type"

    def columns_query(self) -> str | None:
        """A query for the column names of the quoted table `?`; no row without the table.

        None: a query on the table itself does, for a missing one fails without ending the transaction.
        """
        return None

    def table_columns(self, database: Database, table: TableName) -> list[TableColumn]:
        """The columns of a table in their order, by the engine's catalogue, or by what its driver says."""
        return list(database.declared_columns(table))

    def unique_columns(self, database: Database, table: TableName) -> Iterator[IndexColumn]:
        """One item per column (None for an expression) of each unique index; none if it cannot be asked."""
        del database, table
        return iter(())

    def missing_rights(
        self, database: Database, table: TableName, rights: Sequence[Right], column: str = "dispatch_id"
    ) -> list[str]:
        """For each right on a table that the connection's user lacks, the statement that grants it.

        Nothing is changed. CREATE is asked for a table that does not exist, TEMPORARY for one beside it. None
        for an engine that cannot be asked. `column`: one that the table has.
        """
        del database, table, rights, column
        return []

    def view_holds(self, database: Database, table: TableName, text: str) -> bool | None:
        """Whether a text stands in the SQL of a view; None if the name of the table is none of a view.

        True as well if the user may not see the SQL. Asked if `stores_narrow_rows`.
        """
        raise NotImplementedError

    def beside_key(self, column: str) -> str:
        """SQL for a text column of a sink, in a condition that stands beside one on its key.

        NULL may count as an empty text.
        """
        return column

    def within_view(self, table: TableName) -> TableName:
        """How a view names a table of its own schema."""
        return table

    def may_create_narrow(self, database: Database, view: TableName, rows: TableName) -> bool:
        """Whether the connection's user may create a view and a table, which do not exist yet.

        False only where the right to create one table is not enough.
        """
        del database, view, rows
        return True

    def moment_of_text(self, value: str) -> str:
        """SQL for a time (`timestamp_utc`) of our own text of it: UTC without a zone, to the microsecond."""
        return value

    def require_transactions(self, database: Database, table: TableName) -> None:
        """Raise `SinkError` for a table that keeps half a dispatch."""

    def text_conversions(self, database: Database, table: TableName) -> dict[str, str]:
        """Per text column of a table (folded): the format that makes a text of that column's collation."""
        del database, table
        return {}

    def take_lock(self, database: Database, table: TableName, owner: str, wait_s: float) -> bool:
        """Let one dispatch at a time write into a table; False if another still does after `wait_s`.

        Called when nothing was asked for in this transaction; `owner` is how this session shows itself to
        others. If the session says nothing for `limits.idle_s`, the server ends it, and the lock with it.
        """
        del database, table, owner, wait_s
        return True

    def reads_beside_writes(self, database: Database) -> bool:
        """Whether a query of this session, at work, neither waits for others who write nor sees any of it.

        Not even when they write into the tables that it reads.
        """
        del database
        return False

    def limit_statements(self, database: Database, limit_s: float) -> None:
        """Have the server itself end a statement of this transaction that takes longer, if it can."""

    def begin_write(self, table: str) -> list[str]:
        """Statements that begin a write into the (quoted) table; they lock it if `take_lock` does not."""
        del table
        return []

    def release_lock(self, database: Database, table: TableName) -> None:
        """Give back what `take_lock` took and the transaction's end has not given back."""

    def lock_holder(self, database: Database, table: TableName) -> str:
        """Who holds the lock of a table, in words, as far as the database tells; "" for nobody."""
        del database, table
        return ""

    def end_superseded(self, database: Database, table: TableName, owner: str, waited_s: float) -> str | None:
        """End the session of an older try of `owner` that holds a table's lock; its name, if there was one.

        The newest try calls this after it has waited so long. Nothing to do for engines that let no suspended
        process hold the lock for longer than `limits.idle_s`.
        """
        del database, table, owner, waited_s
        return None

    def key_bytes(self, value: str) -> str | None:
        """SQL for the bytes of a text that a collation may take for another; None if counting finds it."""
        del value
        return None

    def same_key(self, one: str, other: str, key: Sequence[str], texts: Sequence[str]) -> str:
        """The condition that two aliases have the same (quoted) key; `texts`: those that may only look so."""
        bytes_of = [(self.key_bytes(f"{one}.{name}"), self.key_bytes(f"{other}.{name}")) for name in texts]
        equal = [*((f"{one}.{name}", f"{other}.{name}") for name in key), *bytes_of]
        return " AND ".join(f"{ours} = {theirs}" for ours, theirs in equal if ours and theirs)

    def compare_exactly(self, database: Database) -> None:
        """Let subqueries of this session tell texts apart that `same_key` tells apart."""
        del database

    def delete_repeated(
        self, table: str, key: Sequence[str], own: str, others: str, texts: Sequence[str] = ()
    ) -> str:
        """Delete rows whose key another row has, too.

        All names are quoted. `own` is the condition on a row that goes, `own.COLUMN ...`, and `others` that
        on the other one, `other.COLUMN ...`. Marks of `own` come first. `texts`: see `same_key`.
        """
        same_key = self.same_key("other", table, key, texts)
        mine = own.replace("own.", f"{table}.", 1)
        return (
            f"DELETE FROM {table} WHERE {mine} AND EXISTS (SELECT 1 FROM {table} other"
            f" WHERE {same_key} AND {others})"
        )

    def estimated_rows(self, database: Database, table: TableName) -> int:
        """About how many rows a table has; only of engines to which a way in `upserts`."""
        raise NotImplementedError

    def stage_name(self, table: TableName, name: str) -> TableName:
        """Where a temporary table for an upsert into `table` stands."""
        raise NotImplementedError

    def replaces_rows(self, database: Database, table: TableName) -> bool:
        """Whether an INSERT into the table may replace rows that share a unique key with its own."""
        del database, table
        return False

    def create_stage(self, merge: Merge) -> str:
        """Create an empty temporary table with the target's own types and collations."""
        columns = ", ".join(merge.columns)
        return f"CREATE TEMPORARY TABLE {merge.stage} AS SELECT {columns} FROM {merge.table} WHERE 1 = 0"

    def drop_stage(self, stage: str) -> str:
        return f"DROP TABLE {stage}"

    def merge(self, merge: Merge) -> list[str]:
        """The statements that bring the staged rows into the table."""
        return [merge.delete_existing(), merge.insert]
