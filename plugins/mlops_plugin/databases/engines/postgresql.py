"""PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.engines.engine import Engine, IndexColumn, Right
from mlops_plugin.databases.engines.merge import Merge
from mlops_plugin.databases.engines.table_column import MICROSECONDS, TableColumn
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError, SinkError
from mlops_plugin.keepalive import KEEPALIVE_COUNT, KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S

_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("int2", "int4", "int8"), "int"),
    **dict.fromkeys(("text", "citext"), "text"),
    **{kind: kind for kind in ("bool", "date", "time", "timestamp", "uuid", "varchar", "json")},
    "timestamptz": "timestamp_utc",
    "numeric": "decimal",
    "float4": "float32",
    "float8": "float64",
    "bpchar": "char",
    "bytea": "blob",  # it reads \\x.. in a text as bytes
}
_ENUM = "e"
_HEADER = 4  # what type modifiers of texts and numbers count in
_MOST_DIGITS = 1000


class Postgresql(Engine):
    name = "postgresql"
    parser = "postgres"
    name_limit = 63  # a longer name is cut without an error
    limit_counts_bytes = True
    column_types: ClassVar[Mapping[str, str]] = {
        **Engine.column_types,
        "decimal": "NUMERIC({precision},{scale})",
        "text": "TEXT",
        "key_text": "TEXT",
        "binary": "BYTEA",
        "key_binary": "BYTEA",
        "timestamp_utc": "TIMESTAMP(6) WITH TIME ZONE",
    }
    max_precision = _MOST_DIGITS
    stores_nan = True
    stores_infinity = True
    text_type = "TEXT"
    has_limit = True
    null_order = "greatest"
    snapshot = ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",)
    session_settings = "SET TIME ZONE 'UTC'"
    session_zone_query = "SELECT CAST(reset_val AS text) AS zone FROM pg_settings WHERE name = 'TimeZone'"
    default_port = 5432
    supports_upsert = True
    stores_narrow_rows = True

    def reads_beside_writes(self, database: Database) -> bool:
        del database
        return True

    def write_time(self, value: datetime) -> str:
        # A column without a zone drops the offset, one with a zone needs it.
        return self.as_plain(value).isoformat(" ")

    def binary_literal(self, value: bytes) -> str:
        return f"decode('{value.hex()}', 'hex')"

    def row_hash(self, columns: Sequence[str], count: int) -> str | None:
        return f"MOD(ABS(CAST(HASHTEXT(CONCAT_WS('|', {', '.join(columns)})) AS BIGINT)), {count:d})"

    def alteration(self, table: str, column: str, wanted: str, view: str | None = None) -> str:
        change = f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {wanted}"
        if view is None:
            return f"run {change}"
        # A column that a view shows keeps its type.
        return f"run DROP VIEW {view}; {change} (the next dispatch makes the view again)"

    def columns_query(self) -> str | None:
        return _COLUMN_NAMES

    def table_columns(self, database: Database, table: TableName) -> list[TableColumn]:
        return [_column(*row) for row in read_rows(database, _COLUMNS, [table.quoted(self)])]

    def unique_columns(self, database: Database, table: TableName) -> Iterator[IndexColumn]:
        for index, column in read_rows(database, _UNIQUE, [table.quoted(self)]):
            yield index, column, False

    def missing_rights(
        self, database: Database, table: TableName, rights: Sequence[Right], column: str = "dispatch_id"
    ) -> list[str]:
        del column
        # By the catalogue: to try them would wait for a dispatch that holds the table's lock.
        missing = []
        user = self.quote(str(read_rows(database, "SELECT CAST(current_user AS text) AS name")[0][0]))
        for right in rights:
            question, parameters, place = self._right(database, table, right)
            if not read_rows(database, f"SELECT {question} AS is_granted", parameters)[0][0]:
                missing.append(f"GRANT {right} ON {place} TO {user}")
        return missing

    def _right(self, database: Database, table: TableName, right: Right) -> tuple[str, list[str], str]:
        """The question whether the user has a right, its parameters, and what the right is on."""
        if right == "TEMPORARY":
            ((name,),) = read_rows(database, "SELECT CAST(current_database() AS text) AS name")
            return "has_database_privilege(?, 'TEMPORARY')", [name], f"DATABASE {self.quote(name)}"
        if right == "CREATE":
            schema = table.schema
            if schema is None:
                ((schema,),) = read_rows(database, "SELECT CAST(current_schema() AS text) AS name")
            if schema is None:
                raise SinkError(
                    f"connection '{database.conn_id}': the search path holds no schema that exists, so "
                    f"{table} cannot be created; name one, e.g. public.{table.name}"
                )
            return "has_schema_privilege(?, 'CREATE')", [schema], f"SCHEMA {self.quote(schema)}"
        name = table.quoted(self)
        if right == "DELETE":
            return "has_table_privilege(?, 'DELETE')", [name], name
        # A right on single columns may be enough.
        return f"has_any_column_privilege(?, '{right}')", [name], name

    def view_holds(self, database: Database, table: TableName, text: str) -> bool | None:
        found = read_rows(database, _VIEW, [text, table.quoted(self)])
        return bool(found[0][0]) if found else None

    def moment_of_text(self, value: str) -> str:
        return f"CAST({value} || '+00' AS TIMESTAMP(6) WITH TIME ZONE)"

    def key_bytes(self, value: str) -> str | None:
        return f'CAST({value} AS text) COLLATE "C"'

    def text_conversions(self, database: Database, table: TableName) -> dict[str, str]:
        # A UUID or an enum arrives as text, and is compared with none.
        found = read_rows(database, _TEXTS, [table.quoted(self)])
        # As it is sent: a cast to text drops the blanks of a CHAR, and writes an address with its mask.
        as_sent = "CASE WHEN {0} IS NOT NULL THEN concat({0}) END"
        return {self.fold(name): as_sent for (name,) in found}

    def take_lock(self, database: Database, table: TableName, owner: str, wait_s: float) -> bool:
        limits = database.limits
        settings = {
            "application_name": owner,
            "lock_timeout": _milliseconds(wait_s),
            "statement_timeout": _milliseconds(limits.statement_s),
            "idle_in_transaction_session_timeout": _milliseconds(limits.idle_s),
            # A worker whose host is gone; while rows are copied, a session does not count as idle.
            "tcp_keepalives_idle": str(KEEPALIVE_IDLE_S),
            "tcp_keepalives_interval": str(KEEPALIVE_INTERVAL_S),
            "tcp_keepalives_count": str(KEEPALIVE_COUNT),
            "tcp_user_timeout": _milliseconds(limits.idle_s),
        }
        # Else a session whose default is stricter would see the table as it was before it waited.
        database.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        _set_local(database, settings)
        try:
            database.execute(f"LOCK TABLE {table.quoted(self)} IN SHARE ROW EXCLUSIVE MODE")
        except DatabaseError as error:
            if not any(sign in error.driver_says for sign in _LOCK_TIMEOUT):
                raise
            database.rollback()
            return False
        _set_local(database, {"lock_timeout": _milliseconds(limits.lock_s)})
        return True

    def limit_statements(self, database: Database, limit_s: float) -> None:
        _set_local(database, {"statement_timeout": _milliseconds(limit_s)})

    def lock_holder(self, database: Database, table: TableName) -> str:
        for pid, user, address, name, state, since in read_rows(database, _HOLDERS, [table.quoted(self)]):
            dispatch = f" ({name})" if name else ""
            return f"process {pid}{dispatch} of user {user} from {address}, '{state}' since {since}"
        return ""

    def end_superseded(self, database: Database, table: TableName, owner: str, waited_s: float) -> str | None:
        # While rows are copied, the server waits for a suspended process without any limit. The name is set
        # for one transaction: behind a pooler, too, the session is still that try's, because it waits for it.
        ended = read_rows(database, _END_SUPERSEDED, [table.quoted(self), owner, f"{waited_s:g} seconds"])
        database.rollback()
        return f"process {ended[0][0]}" if ended else None

    def stage_name(self, table: TableName, name: str) -> TableName:
        del table
        return TableName(name, "pg_temp")

    def merge(self, merge: Merge) -> list[str]:
        return [merge.insert_on_conflict()] if merge.is_unique else super().merge(merge)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def _set_local(database: Database, settings: Mapping[str, str]) -> None:
    """Set what the server knows of these settings, for this transaction: a pooler may share the session."""
    values = " ".join("WHEN ? THEN ?" for _ in settings)
    names = ", ".join("?" for _ in settings)
    parameters = [part for setting in settings.items() for part in setting]
    read_rows(
        database,
        f"SELECT set_config(name, CASE name {values} END, true) AS value FROM pg_settings"
        f" WHERE name IN ({names})",
        [*parameters, *settings],
    )


def _column(
    name: str, declared: str, type_name: str, of_users: str, modifier: str, *facts: object
) -> TableColumn:
    refuses_null, compares_bytes = facts
    kind = "enum" if of_users == _ENUM else _KINDS.get(type_name, "")
    limit = int(modifier)
    is_limited = limit >= 0
    # make_numeric_typmod in PostgreSQL's src/backend/utils/adt/numeric.c
    digits, scale = (limit - _HEADER) >> 16 & 0xFFFF, (limit - _HEADER) & 0x7FF
    if kind == "decimal" and is_limited and scale > digits:
        kind = ""  # a negative scale, or one beyond the digits
    return TableColumn(
        name,
        declared,
        kind,
        characters=limit - _HEADER if is_limited and kind in ("char", "varchar") else None,
        digits=digits if is_limited else _MOST_DIGITS,
        scale=scale if is_limited else _MOST_DIGITS,
        fraction=limit if is_limited and kind in ("time", "timestamp", "timestamp_utc") else MICROSECONDS,
        refuses_null=bool(refuses_null),
        compares_bytes=bool(compares_bytes),
    )


# One row per column, NULL for a table without columns, no row without the table. Table and columns come from
# one snapshot: `to_regclass` alone already finds a table that is being created, while the rest of the query
# does not see its columns yet. (A query on the table itself would end the transaction if it failed.)
_COLUMN_NAMES = (
    "SELECT a.attname::text FROM pg_class c "
    "LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
    "WHERE c.oid = to_regclass(?) ORDER BY a.attnum"
)
_VIEW = (
    "SELECT CASE WHEN strpos(pg_get_viewdef(c.oid), CAST(? AS text)) > 0 THEN 1 ELSE 0 END AS is_held"
    " FROM pg_class c WHERE c.oid = to_regclass(?) AND c.relkind = 'v'"
)
# A domain counts as the type that it is made of.
_COLUMNS = """
SELECT CAST(a.attname AS text) AS name, format_type(a.atttypid, a.atttypmod) AS declared,
       CAST(b.typname AS text) AS kind, CAST(b.typtype AS text) AS of_users,
       CAST(CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END AS text) AS modifier,
       CASE WHEN a.attgenerated <> '' OR a.attnotnull OR t.typnotnull THEN 1 ELSE 0 END AS refuses_null,
       CASE WHEN c.collisdeterministic AND b.typname <> 'citext' THEN 1 ELSE 0 END AS compares_bytes
FROM pg_attribute a
LEFT JOIN pg_collation c ON c.oid = a.attcollation
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
WHERE a.attrelid = to_regclass(?) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
# Columns after the first indnkeyatts are only carried along; a deferred constraint takes no ON CONFLICT. Rows
# of a table that inherits from this one are in no index of it.
_UNIQUE = """
SELECT CAST(i.indexrelid AS bigint) AS name, CAST(a.attname AS text) AS col
FROM pg_index i
CROSS JOIN LATERAL unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS k(attnum, position)
LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = to_regclass(?) AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND i.indpred IS NULL AND k.position <= i.indnkeyatts
  AND NOT EXISTS (
    SELECT 1 FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
    WHERE h.inhparent = i.indrelid AND NOT c.relispartition
  )
"""
_LOCK_TIMEOUT = ("55P03", "lock timeout")
_HOLDERS = """
SELECT CAST(a.pid AS text) AS pid, CAST(a.usename AS text) AS who,
       COALESCE(host(a.client_addr) || ':' || a.client_port, 'this host') AS address,
       CAST(a.application_name AS text) AS name, CAST(a.state AS text) AS state,
       CAST(date_trunc('second', a.state_change) AS text) AS since
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.relation = to_regclass(?) AND l.granted AND a.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
ORDER BY a.state_change
"""
_END_SUPERSEDED = """
SELECT CAST(a.pid AS text) AS pid, pg_terminate_backend(a.pid) AS is_ended
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.relation = to_regclass(?) AND l.granted AND l.mode = 'ShareRowExclusiveLock'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND a.pid <> pg_backend_pid() AND a.usename = current_user AND a.application_name = ?
  AND a.wait_event_type = 'Client' AND a.state_change < clock_timestamp() - CAST(? AS interval)
"""
_TEXTS = (
    "SELECT CAST(attname AS text) AS name FROM pg_attribute WHERE attrelid = to_regclass(?) AND attnum > 0"
    " AND CAST(CAST(atttypid AS regtype) AS text) IN ('text', 'character varying')"
)
