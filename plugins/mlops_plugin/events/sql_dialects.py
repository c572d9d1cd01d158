"""What differs between the event store's engines: only this module of events/ asks for a dialect's name."""

from __future__ import annotations

import math
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Dialect

from mlops_plugin.wait_limits import StoreLimits

_POSTGRES_LOCK = 0x6D6C6F7073  # "mlops": advisory locks are numbers, shared by all users of the database


def utc_time_type(dialect: Dialect) -> sa.types.TypeEngine[Any]:
    """A moment to the microsecond."""
    if _is_mysql(dialect):
        return mysql.DATETIME(fsp=6)
    return sa.DateTime(timezone=keeps_time_zone(dialect))


def keeps_time_zone(dialect: Dialect) -> bool:
    """Whether a column of `utc_time_type` takes aware times; if not, naive ones in UTC."""
    return _is_postgres(dialect)


def long_text_type(dialect: Dialect) -> sa.types.TypeEngine[Any]:
    """Text without a practical limit; MySQL's TEXT ends at 64 KB."""
    return mysql.LONGTEXT() if _is_mysql(dialect) else sa.Text()


def microseconds_now(dialect: Dialect) -> sa.ColumnElement[Any]:
    """The store's clock in microseconds since 1970, in UTC, at the moment of the statement.

    NOW() repeats an hour when clocks change, and PostgreSQL's stands still within a transaction.
    """
    if _is_mysql(dialect):
        return sa.literal_column("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))")
    if _is_postgres(dialect):
        return sa.literal_column("CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)")
    # SQLite's own functions know milliseconds; its file is on this machine anyway.
    return sa.literal(time.time_ns() // 1000, sa.BigInteger())


def insert_unless_there(connection: sa.Connection, table: sa.Table, values: dict[str, Any], key: str) -> None:
    """Insert a row; if two do it at once, one inserts and the other waits for it."""
    match connection.dialect.name:
        case "sqlite":
            connection.execute(sqlite.insert(table).values(values).on_conflict_do_nothing())
        case "postgresql":
            connection.execute(postgresql.insert(table).values(values).on_conflict_do_nothing())
        case _:
            insert = mysql.insert(table).values(values)
            # Changes nothing, but unlike INSERT IGNORE it hides no other error and takes the lock at once.
            connection.execute(insert.on_duplicate_key_update({key: insert.inserted[key]}))


def session_settings(dialect: Dialect, limits: StoreLimits) -> str | None:
    """What a new connection says, so that the server itself ends what waits too long; None for nothing.

    And so that no setting of the server or the user leaves rows out. MariaDB ends idle transactions; MySQL
    only idle sessions, of which the pool makes new ones.
    """
    if not _is_mysql(dialect):
        return None
    lock_s, idle_s = math.ceil(limits.lock_s), math.ceil(limits.idle_s)
    return (
        f"SET SESSION sql_select_limit = {2**64 - 1}, innodb_lock_wait_timeout = {lock_s}"
        f" /*M!100300 , idle_transaction_timeout = {idle_s} */ /*!80000 , wait_timeout = {idle_s} */"
    )


def transaction_limits(dialect: Dialect, limits: StoreLimits) -> str | None:
    """What a transaction that takes locks says first; None for nothing."""
    if not _is_postgres(dialect):
        return None
    milliseconds = {
        "lock_timeout": limits.lock_s,
        "statement_timeout": limits.answer_s,
        "idle_in_transaction_session_timeout": limits.idle_s,
    }
    return "; ".join(f"SET LOCAL {name} = {seconds * 1000:.0f}" for name, seconds in milliseconds.items())


def text_literal(dialect: Dialect, text: str) -> str:
    """Any text as SQL: neither an engine nor a driver reads anything in the digits of its bytes."""
    digits = text.encode().hex()
    if _is_mysql(dialect):
        return f"_utf8mb4 x'{digits}'"
    if _is_postgres(dialect):
        return f"convert_from(decode('{digits}', 'hex'), 'UTF8')"
    return f"CAST(x'{digits}' AS TEXT)"


def transaction_in(dialect: Dialect, limits: StoreLimits) -> tuple[list[str], list[str]] | None:
    """What stands before and behind statements that a server gets as one message, to be one transaction.

    None if the engine takes one statement at a time.
    """
    if _is_mysql(dialect):
        return ["START TRANSACTION"], ["COMMIT"]
    if _is_postgres(dialect):
        return ["BEGIN ISOLATION LEVEL READ COMMITTED", transaction_limits(dialect, limits) or ""], ["COMMIT"]
    return None


def lock_for_upgrade(connection: sa.Connection, timeout_s: int) -> bool:
    """Wait until no other upgrade runs; False if one still does after `timeout_s` (PostgreSQL raises)."""
    if _is_mysql(connection.dialect):
        # Lock names are the server's, so ours holds the database's; it ends with the connection.
        name = "CONCAT('mlops_event_store.', LEFT(MD5(DATABASE()), 32))"
        return bool(connection.scalar(sa.text(f"SELECT GET_LOCK({name}, {timeout_s:d})")) == 1)
    if _is_postgres(connection.dialect):
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{timeout_s:d}s'"))
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_POSTGRES_LOCK})"))
    return True  # SQLite: the transaction is the lock


def _is_mysql(dialect: Dialect) -> bool:
    return dialect.name in ("mysql", "mariadb")


def _is_postgres(dialect: Dialect) -> bool:
    return dialect.name == "postgresql"
