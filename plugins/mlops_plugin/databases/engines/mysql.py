"""MySQL and MariaDB."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar

import pyarrow as pa

from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.engines.engine import CursorValue, Engine, IndexColumn, Right
from mlops_plugin.databases.engines.merge import Merge
from mlops_plugin.databases.engines.table_column import MICROSECONDS, TableColumn
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError, SinkError

# https://dev.mysql.com/doc/refman/8.4/en/innodb-limits.html
_INDEX_BYTES = 3072
_MOST_INDEX_COLUMNS = 16
_CHARACTER_BYTES = 4  # of utf8mb4
_OTHER_BYTES = 30  # at most, of a number or a time: a DECIMAL of 65 digits
_KEY_LENGTH = 255  # of a text or bytes, if there is room
_LARGEST_SIGNED = 2**63 - 1
_MEMBER = re.compile(r"'((?:[^']|'')*)'")
_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint"), "int"),
    **dict.fromkeys(("tinytext", "text", "mediumtext", "longtext"), "text"),
    **dict.fromkeys(("varbinary", "tinyblob", "blob", "mediumblob", "longblob"), "binary"),
    **dict.fromkeys(("datetime", "timestamp"), "timestamp"),
    **{kind: kind for kind in ("decimal", "bit", "year", "date", "time", "enum", "uuid", "varchar", "char")},
    "float": "float32",
    "double": "float64",
    "binary": "fixed binary",
}


class Mysql(Engine):
    name = "mysql"
    parser = "mysql"
    opening = closing = "`"
    name_limit = 64
    names_beyond_bmp = False
    ignores_case = True
    column_types: ClassVar[Mapping[str, str]] = {
        **Engine.column_types,
        "int8": "TINYINT",
        # Its text protocol shows a FLOAT with six digits only; a DOUBLE holds every float32.
        "float32": "DOUBLE",
        "float64": "DOUBLE",
        "text": "TEXT CHARACTER SET utf8mb4",
        # An index takes no TEXT, and the default collation takes 'a' and 'A' for the same key.
        "key_text": "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        "binary": "LONGBLOB",
        # TIMESTAMP ends in 2038 and follows the session's time zone; UTC in a DATETIME does not.
        "timestamp": "DATETIME(6)",
        "timestamp_utc": "DATETIME(6)",
    }
    max_precision = 65
    stores_nul = True
    trims_char = True
    folds_enum = True
    cast_types = ("SIGNED", "DATE", "DATETIME(6)", "DATETIME(6)")
    double_type = "DOUBLE"
    text_type = "CHAR"
    has_limit = True
    null_order = "least"
    snapshot = (
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    )
    session_settings = f"SET time_zone = '+00:00', sql_select_limit = {2**64 - 1}"
    session_zone_query = (
        "SELECT CASE @@global.time_zone WHEN 'SYSTEM' THEN @@system_time_zone"
        " ELSE @@global.time_zone END AS zone"
    )
    default_port = 3306
    databases_are_schemas = True
    table_options = " ENGINE=InnoDB"
    supports_upsert = True
    keys_stage = True
    stores_narrow_rows = True

    def index_types(self, arrow_types: Sequence[pa.DataType]) -> list[str]:
        """Texts share what room the other columns leave: an index takes 3,072 bytes of a row."""
        if len(arrow_types) > _MOST_INDEX_COLUMNS:
            raise SinkError(
                f"a key of {len(arrow_types)} columns: {self.name} allows {_MOST_INDEX_COLUMNS} in an index "
                "(mode append adds dispatch_id); combine several into one column in the query"
            )
        types = super().index_types(arrow_types)
        texts = [kind for kind in types if kind == self.column_types["key_text"]]
        binaries = [kind for kind in types if kind == self.column_types["key_binary"]]
        room = _INDEX_BYTES - _OTHER_BYTES * (len(types) - len(texts) - len(binaries))
        widest = room // max(1, _CHARACTER_BYTES * len(texts) + len(binaries))
        if widest >= _KEY_LENGTH:
            return types
        return [kind.replace(f"({_KEY_LENGTH})", f"({widest})") for kind in types]

    def as_label(self, value: str) -> str:
        return f"CONCAT({value})"  # a CAST would have another collation

    def row_hash(self, columns: Sequence[str], count: int) -> str | None:
        return f"MOD(CRC32(CONCAT_WS('|', {', '.join(columns)})), {count:d})"

    def typed_mark(self, value: CursorValue) -> tuple[str, str]:
        if isinstance(value, int) and value > _LARGEST_SIGNED:
            return "CAST(? AS UNSIGNED)", str(value)
        mark, text = super().typed_mark(value)
        return mark, text.removesuffix("+00:00")  # a DATETIME has no zone; ours are in UTC

    def at_or_after(self, column: str, value: CursorValue) -> tuple[str, tuple[object, ...]]:
        condition, parameters = super().at_or_after(column, value)
        return condition if isinstance(value, int) else _or_zeros(condition, column), parameters

    def within(self, column: str, start: CursorValue, end: CursorValue) -> tuple[str, tuple[object, ...]]:
        condition, parameters = super().within(column, start, end)
        return condition if isinstance(start, int) else _or_zeros(condition, column), parameters

    def alteration(self, table: str, column: str, wanted: str, view: str | None = None) -> str:
        del view
        return f"run ALTER TABLE {table} MODIFY {column} {wanted}"

    def table_columns(self, database: Database, table: TableName) -> list[TableColumn]:
        return [_column(*row) for row in read_rows(database, _COLUMNS, _place(table))]

    def unique_columns(self, database: Database, table: TableName) -> Iterator[IndexColumn]:
        for index, column, is_generated in read_rows(database, _UNIQUE, 2 * _place(table)):
            yield index, column, bool(is_generated)

    def require_transactions(self, database: Database, table: TableName) -> None:
        for engine, transactions in read_rows(database, _TRANSACTIONS, _place(table)):
            if engine is not None and transactions != "YES":
                raise SinkError(
                    f"connection '{database.conn_id}': table {table} uses the engine {engine}, which has no "
                    "transactions: rows of a dispatch that fails half-way would remain; run "
                    f"ALTER TABLE {table.quoted(self)} ENGINE=InnoDB"
                )

    def missing_rights(
        self, database: Database, table: TableName, rights: Sequence[Right], column: str = "dispatch_id"
    ) -> list[str]:
        # Roles and wildcards decide as well: only the server knows. No statement changes anything.
        missing = []
        for right in rights:
            try:
                self._try_right(database, table, right, column)
            except DatabaseError as error:
                if not _DENIED.search(error.driver_says):
                    raise
                missing.append(self._grant(database, table, right))
            finally:
                database.rollback()
        return missing

    def _try_right(self, database: Database, table: TableName, right: Right, of: str) -> None:
        name, column = table.quoted(self), self.enclose(of)
        statement = {
            "SELECT": f"DO (SELECT COUNT(*) FROM {name} WHERE 1 = 0)",
            "INSERT": f"INSERT INTO {name} ({column}) SELECT {column} FROM {name} WHERE 1 = 0",
            "UPDATE": f"UPDATE {name} SET {column} = {column} WHERE 1 = 0",
            "DELETE": f"DELETE FROM {name} WHERE 1 = 0",
            # Rights come before columns, and no table has two of one name.
            "CREATE": f"CREATE TABLE {name} (a INTEGER, a INTEGER)",
            "TEMPORARY": f"CREATE TEMPORARY TABLE {name} (a INTEGER, a INTEGER)",
        }[right]
        _try(database, statement)

    def _grant(self, database: Database, table: TableName, right: Right) -> str:
        asked = "SELECT CAST(CURRENT_USER() AS CHAR) AS who, COALESCE(?, DATABASE()) AS place"
        ((user, schema),) = read_rows(database, asked, [table.schema])
        account, _, host = str(user).rpartition("@")
        is_beside = right == "TEMPORARY"
        place = f"{self.quote(schema)}.{'*' if is_beside else self.quote(table.name)}"
        words = "CREATE TEMPORARY TABLES" if is_beside else right
        return f"GRANT {words} ON {place} TO '{account}'@'{host}'"

    def view_holds(self, database: Database, table: TableName, text: str) -> bool | None:
        found = read_rows(database, _VIEW, [text, *_place(table)])
        return bool(found[0][0]) if found else None

    def may_create_narrow(self, database: Database, view: TableName, rows: TableName) -> bool:
        try:
            self._try_right(database, rows, "CREATE", "")
            _try(database, f"CREATE VIEW {view.quoted(self)} AS SELECT 1 AS a, 1 AS a")
        except DatabaseError as error:
            if not _DENIED.search(error.driver_says):
                raise
            return False
        finally:
            database.rollback()
        return True

    def moment_of_text(self, value: str) -> str:
        return f"CAST({value} AS DATETIME(6))"

    def text_conversions(self, database: Database, table: TableName) -> dict[str, str]:
        return {
            self.fold(name): f"CONVERT({{}} USING {charset}) COLLATE {collation}"
            for name, collation, charset in read_rows(database, _COLLATIONS, _place(table))
        }

    def take_lock(self, database: Database, table: TableName, owner: str, wait_s: float) -> bool:
        """By a named lock: LOCK TABLES would commit. The server tells nobody what a session is called.

        Without it two deletes may both lock the same empty gap, and both inserts then wait for the other.
        """
        del owner
        database.execute(f"SET SESSION wait_timeout = {math.ceil(database.limits.idle_s):d}")
        # Into a variable: a driver may evaluate a query twice, to learn its types.
        take = f"SELECT GET_LOCK({_LOCK_NAME}, {math.ceil(wait_s):d}) INTO @mlops_lock"
        database.execute(take, _place(table))
        return read_rows(database, "SELECT CAST(@mlops_lock AS SIGNED) AS is_held") == [(1,)]

    def reads_beside_writes(self, database: Database) -> bool:
        """Uncommitted rows are seen by the least isolation, and waited for by the strictest."""
        names = "Variable_name IN ('transaction_isolation', 'tx_isolation')"  # one or both, by server
        found = {str(value) for _, value in read_rows(database, f"SHOW VARIABLES WHERE {names}")}
        return bool(found) and found <= {"READ-COMMITTED", "REPEATABLE-READ"}

    def release_lock(self, database: Database, table: TableName) -> None:
        with suppress(DatabaseError):  # it ends with the connection anyway
            database.execute(f"DO RELEASE_LOCK({_LOCK_NAME})", _place(table))
            database.execute("SET SESSION wait_timeout = DEFAULT")
            database.commit()

    def limit_statements(self, database: Database, limit_s: float) -> None:
        # A comment to the other of the two servers.
        mariadb = f"/*M!100100 SESSION max_statement_time = {limit_s:.3f} */"
        mysql = f"/*!50708 SESSION max_execution_time = {limit_s * 1000:.0f} */"
        self._set_before_reading(database, f"{mariadb} {mysql}")

    def begin_write(self, table: str) -> list[str]:
        # Else a table would cut a value that does not fit, and give a row whose AUTO_INCREMENT key is 0
        # another key; in the mode that goes, an empty text becomes NULL.
        ours = "'STRICT_ALL_TABLES', 'NO_AUTO_VALUE_ON_ZERO'"
        theirs = "REPLACE(@@SESSION.sql_mode, 'EMPTY_STRING_IS_NULL', 'STRICT_ALL_TABLES')"
        mode = f"CONCAT_WS(',', NULLIF({theirs}, ''), {ours})"
        # The named lock keeps out dispatches only. Nobody alters a table that this transaction has read; for
        # update, or an ALTER that waits would be in the way of its first write.
        read = f"@mlops_rows = (SELECT COUNT(*) FROM {table} WHERE 1 = 0 FOR UPDATE)"
        return [f"SET {read}, SESSION sql_mode = {mode}"]

    def lock_holder(self, database: Database, table: TableName) -> str:
        database.execute(f"SELECT IS_USED_LOCK({_LOCK_NAME}) INTO @mlops_holder", _place(table))
        ((holder,),) = read_rows(database, "SELECT CAST(@mlops_holder AS CHAR) AS id")
        for user, host, command, seconds in read_rows(database, _SESSION):
            return f"connection {holder} of user {user} from {host}, for {seconds} s in '{command}'"
        return f"connection {holder}" if holder else ""

    def estimated_rows(self, database: Database, table: TableName) -> int:
        ((rows,),) = read_rows(database, _ESTIMATE, _place(table))
        return int(rows)

    def key_bytes(self, value: str) -> str | None:
        return f"CAST({value} AS BINARY)"

    def compare_exactly(self, database: Database) -> None:
        # MariaDB looks up a subquery's answer by the outer row's value, in that column's collation.
        cache = "/*M!100000 , SESSION optimizer_switch = 'subquery_cache=off' */"
        self._set_before_reading(database, f"@mlops_exact = 1 {cache}")

    def _set_before_reading(self, database: Database, settings: str) -> None:
        database.execute(f"SET {settings}")
        # Over ODBC, columns are not described behind a statement that may have written: their values would
        # pass without the rules for its driver.
        database.commit()

    def delete_repeated(
        self, table: str, key: Sequence[str], own: str, others: str, texts: Sequence[str] = ()
    ) -> str:
        # A subquery may not read the table that the statement changes.
        same_key = self.same_key("other", "own", key, texts)
        return f"DELETE own FROM {table} own JOIN {table} other ON {same_key} WHERE {own} AND {others}"

    def stage_name(self, table: TableName, name: str) -> TableName:
        return TableName(name, table.schema, table.catalog)  # there may be no current schema

    def create_stage(self, merge: Merge) -> str:
        # Only if the table has such an index: its columns are known to take one. Looking for duplicates and
        # counting then cost a tenth: without it, each sorts all keys once more.
        key = f" (PRIMARY KEY ({', '.join(merge.key)}))" if merge.is_keyed else ""
        select = f"SELECT {', '.join(merge.columns)} FROM {merge.table} WHERE 1 = 0"
        return f"CREATE TEMPORARY TABLE {merge.stage}{key}{self.table_options} AS {select}"

    def drop_stage(self, stage: str) -> str:
        return f"DROP TEMPORARY TABLE {stage}"  # without TEMPORARY it would commit

    def merge(self, merge: Merge) -> list[str]:
        # It updates the row of whichever unique key collides: with a second one that may be the wrong row.
        if merge.is_only_unique:
            return [f"{merge.insert} ON DUPLICATE KEY UPDATE {merge.assignments('s')}"]
        same_key = merge.key_equals("t", "s")
        return [f"DELETE t FROM {merge.table} t JOIN {merge.staged_keys} s ON {same_key}", merge.insert]


_DENIED = re.compile(r"denied", re.IGNORECASE)
_AFTER_RIGHTS = re.compile(r"duplicate column|default value|already exists", re.IGNORECASE)


def _try(database: Database, statement: str) -> None:
    """Run a statement that fails in any case, if the rights suffice for a reason that we know."""
    try:
        database.execute(statement)
    except DatabaseError as error:
        if not _AFTER_RIGHTS.search(error.driver_says):
            raise


def _or_zeros(condition: str, column: str) -> str:
    """Also the rows with a date of zeros. As a range, which an index answers."""
    return f"{condition} OR {column} < CAST('0001-01-01' AS DATE)"


def _place(table: TableName) -> list[str | None]:
    return [table.schema, table.name]


def _column(name: str, declared: str, data_type: str, *sizes: str | None) -> TableColumn:
    characters, octets, digits, scale, fraction, refuses_null = (
        None if size is None else int(size) for size in sizes
    )
    kind = _KINDS.get(data_type, "")
    if kind in ("float32", "float64") and scale is not None:
        kind = ""  # FLOAT(7,4) and DOUBLE(7,4) round to decimal places
    members = _MEMBER.findall(declared) if kind == "enum" else []
    return TableColumn(
        name,
        declared,
        kind,
        characters=characters if kind in ("char", "varchar") else None,
        octets=octets if kind in ("text", "binary", "fixed binary") else None,
        digits=digits or 0,
        scale=scale or 0,
        fraction=MICROSECONDS if fraction is None else fraction,
        members=tuple(member.replace("''", "'") for member in members),
        refuses_null=bool(refuses_null),
    )


# Numbers are read as text: drivers differ in the type that they give to the catalogue's own.
_COLUMNS = """
SELECT c.column_name AS name, c.column_type AS declared, c.data_type AS kind,
       CAST(c.character_maximum_length AS CHAR) AS characters,
       CAST(c.character_octet_length AS CHAR) AS octets,
       CAST(c.numeric_precision AS CHAR) AS digits, CAST(c.numeric_scale AS CHAR) AS scale,
       CAST(c.datetime_precision AS CHAR) AS fraction,
       CASE WHEN c.generation_expression <> '' OR c.is_nullable = 'NO' THEN '1' ELSE '0' END AS refuses_null
FROM information_schema.columns c
WHERE c.table_schema = COALESCE(?, DATABASE()) AND c.table_name = ?
ORDER BY c.ordinal_position
"""
# No join: the server would open every table of every database to find the joined columns.
_UNIQUE = """
SELECT s.index_name AS name,
       CASE WHEN s.sub_part IS NULL THEN s.column_name END AS col,
       CASE WHEN (
         SELECT c.extra FROM information_schema.columns c
         WHERE c.table_schema = COALESCE(?, DATABASE()) AND c.table_name = ? AND c.column_name = s.column_name
       ) LIKE '%auto_increment%' THEN 1 ELSE 0 END AS is_generated
FROM information_schema.statistics s
WHERE s.table_schema = COALESCE(?, DATABASE()) AND s.table_name = ? AND s.non_unique = 0
"""
# Without the privilege SHOW VIEW the definition is empty.
_VIEW = """
SELECT CASE COALESCE(v.view_definition, '') WHEN '' THEN 1
  ELSE LOCATE(CAST(? AS BINARY), CAST(v.view_definition AS BINARY)) > 0 END AS is_held
FROM information_schema.views v
WHERE v.table_schema = COALESCE(?, DATABASE()) AND v.table_name = ?
"""
_LOCK_NAME = "SHA1(CONCAT('mlops ', COALESCE(?, DATABASE()), '.', ?))"
# Without the privilege PROCESS it shows the sessions of one's own user only.
_SESSION = """
SELECT p.user AS who, p.host AS place, p.command AS command, CAST(p.time AS CHAR) AS seconds
FROM information_schema.processlist p WHERE p.id = @mlops_holder
"""
_TRANSACTIONS = """
SELECT t.engine AS engine, e.transactions AS transactions
FROM information_schema.tables t
LEFT JOIN information_schema.engines e ON e.engine = t.engine
WHERE t.table_schema = COALESCE(?, DATABASE()) AND t.table_name = ?
"""
_ESTIMATE = """
SELECT CAST(COALESCE(t.table_rows, 0) AS CHAR) AS estimated
FROM information_schema.tables t
WHERE t.table_schema = COALESCE(?, DATABASE()) AND t.table_name = ?
"""
_COLLATIONS = """
SELECT column_name AS name, collation_name AS collation, character_set_name AS charset
FROM information_schema.columns
WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? AND collation_name IS NOT NULL
"""
