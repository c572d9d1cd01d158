"""Makes SQLAlchemy's engine for an event store on a server; `address` calls it.

It spares round trips: SQLAlchemy's pool would roll back after each commit and ping the server each time.
"""

from __future__ import annotations

import functools
import importlib
import math
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.errors import DriverMissing
from mlops_plugin.events.servers.answer_watch import AnswerWatch, Line
from mlops_plugin.events.sql_dialects import session_settings, transaction_limits
from mlops_plugin.keepalive import KEEPALIVE_OF_LIBPQ, keep_alive
from mlops_plugin.wait_limits import StoreLimits

TRUSTED_S = 1.0  # a connection that was used so recently is taken to be alive; a write is repeated if not

_FREE_SINCE = "mlops_free_since"
_LINE = "mlops_line"
_SERVER = "mlops_server"
_EXPECT = "mlops_expect"
DRIVERS = {"mysql": "mysql+mysqlconnector", "postgres": "postgresql+psycopg2"}
_PACKAGES = {
    "mysql": ("mysql.connector", "mysql-connector-python"),
    "postgres": ("psycopg2", "psycopg2-binary"),
}
# What of a connection's extra is handed to the driver; the rest is meant for Airflow's hooks.
_EXTRAS = {
    "mysql": ("unix_socket", "ssl_ca", "ssl_cert", "ssl_key", "ssl_disabled", "ssl_verify_cert"),
    "postgres": ("sslmode", "sslrootcert", "sslcert", "sslkey", "options", "application_name"),
}


def server_engine(connection: ConnectionSpec, limits: StoreLimits) -> sa.Engine:
    """An engine that has not connected yet; every wait for its server ends within a limit.

    Raises `DriverMissing` with the package to install.
    """
    _require_driver(connection)
    given = {
        name: connection.extra[name] for name in _EXTRAS[connection.conn_type] if name in connection.extra
    }
    is_mysql = connection.conn_type == "mysql"
    default_port = 3306 if is_mysql else 5432
    ours = _mysql_arguments(limits) if is_mysql else _postgres_arguments(limits)
    engine = sa.create_engine(
        sa.URL.create(
            DRIVERS[connection.conn_type],
            username=connection.login,
            password=connection.password,
            host=connection.host,
            port=connection.port or (default_port if connection.host else None),
            database=connection.schema,
        ),
        connect_args={**ours, **given},
        isolation_level="READ COMMITTED",
        pool_size=2,
        max_overflow=8,
        pool_reset_on_return=None,  # by `_Watched.end_transaction`
        pool_recycle=1800,
        hide_parameters=True,
        # SQLAlchemy would ask each new connection for the oid of a type that no table of ours has.
        **({} if is_mysql else {"use_native_hstore": False}),
    )
    _Watched(engine, limits, f"{connection.host or 'localhost'}:{connection.port or default_port}").listen()
    return engine


def _require_driver(connection: ConnectionSpec) -> None:
    module, package = _PACKAGES[connection.conn_type]
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise DriverMissing(
            f"event store (connection '{connection.conn_id}'): the driver for type {connection.conn_type} is "
            f"not installed; install it: pip install {package}"
        ) from error


def _mysql_arguments(limits: StoreLimits) -> dict[str, Any]:
    from mysql.connector import HAVE_CEXT

    # By default the driver asks for a collation of MySQL 8; every server knows this one.
    arguments: dict[str, Any] = {
        "charset": "utf8mb4",
        "collation": "utf8mb4_bin",
        "connection_timeout": math.ceil(limits.connect_s),
    }
    # The part in C shows nobody its socket. That in Python would use a connection again after such a timeout.
    if HAVE_CEXT:
        arguments |= dict.fromkeys(("read_timeout", "write_timeout"), math.ceil(limits.answer_s))
    return arguments


def _postgres_arguments(limits: StoreLimits) -> dict[str, Any]:
    return {
        "connect_timeout": math.ceil(limits.connect_s),
        "client_encoding": "utf8",
        **KEEPALIVE_OF_LIBPQ,
    }


class NoAnswer(sa.exc.SQLAlchemyError):
    """The server did not answer within a limit; the transaction is not repeated."""


@dataclass(frozen=True)
class _Watched:
    """Watches over an engine's connections, from the moment they are made."""

    engine: sa.Engine
    limits: StoreLimits
    server: str
    watch: AnswerWatch = field(default_factory=AnswerWatch)
    connecting: dict[int, Line] = field(default_factory=dict)  # by thread: not yet handed out by the pool

    def listen(self) -> None:
        listen = sa.event.listen
        listen(self.engine, "connect", self.take, insert=True)  # SQLAlchemy's own asks the server
        listen(self.engine, "checkout", self.find_alive)
        listen(self.engine, "before_cursor_execute", self.ask)
        listen(self.engine, "begin", self.begin)
        listen(self.engine, "commit", self.ask)
        listen(self.engine, "rollback", self.ask)
        listen(self.engine, "reset", self.end_transaction)
        listen(self.engine, "checkin", self.put_back)
        listen(self.engine, "close", self.close)
        listen(self.engine, "handle_error", self.explain)

    def take(self, connection: Any, record: Any) -> None:
        """A new connection."""
        of_mysql = getattr(getattr(connection, "_socket", None), "sock", None)
        if of_mysql is not None:
            keep_alive(of_mysql)
        if hasattr(connection, "is_connected"):  # MySQL's driver asks before each statement
            connection.is_connected = lambda: True
        socket = of_mysql or connection
        record.info[_SERVER] = self.server
        if hasattr(socket, "fileno"):
            line = record.info[_LINE] = Line(socket.fileno())
            self.connecting[threading.get_ident()] = line
        record.info[_EXPECT] = functools.partial(self._expect, record, self.limits.answer_s)
        self._expect(record, self.limits.answer_s)
        if statement := session_settings(self.engine.dialect, self.limits):
            cursor = connection.cursor()
            cursor.execute(statement)
            cursor.close()

    def find_alive(self, connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get(_FREE_SINCE, math.inf) >= TRUSTED_S:
            self._expect(record, self.limits.ping_s)
            try:
                self.engine.dialect.do_ping(connection)
            except self.engine.dialect.loaded_dbapi.Error as error:
                raise sa.exc.InvalidatePoolError from error  # the pool reconnects
        self.connecting.pop(threading.get_ident(), None)
        self._expect(record, self.limits.answer_s)

    def ask(self, connection: sa.Connection, *_: Any) -> None:
        if not (connection.closed or connection.invalidated):  # it would connect again
            self._expect(connection.connection, self.limits.answer_s)

    def begin(self, connection: sa.Connection) -> None:
        """Let the server bound a transaction that takes locks; here, since a pooler may share the session."""
        if connection.get_execution_options().get("writes") and (
            statement := transaction_limits(self.engine.dialect, self.limits)
        ):
            connection.exec_driver_sql(statement)

    def end_transaction(self, connection: Any, record: Any, _state: Any) -> None:
        # The drivers know from the server's last answer whether one is open; psycopg2 looks by itself.
        if record is not None:  # it is, of one that does not go back
            self._expect(record, self.limits.answer_s)
        if getattr(connection, "in_transaction", True):
            connection.rollback()
        if record is not None:
            record.info[_FREE_SINCE] = time.monotonic()

    def put_back(self, _connection: Any, record: Any) -> None:
        end_waiting(record)

    def close(self, _connection: Any, record: Any) -> None:
        if line := record.info.pop(_LINE, None):
            line.close()

    def explain(self, context: Any) -> None:
        """Say that the server was silent, instead of the driver's words for a connection that was cut."""
        connection = context.connection
        line = self.connecting.pop(threading.get_ident(), None)
        if connection is not None and not (connection.closed or connection.invalidated):
            line = connection.connection.info.get(_LINE)
        if line is not None and line.silent_s is not None:
            context.is_disconnect = True
            raise _no_answer(self.server, line.silent_s) from context.original_exception

    def _expect(self, holder: Any, within_s: float) -> None:
        if line := holder.info.get(_LINE):
            self.watch.expect(line, within_s)


def expect_answer(connection: sa.PoolProxiedConnection) -> None:
    """From now on, the server must answer within the limit, or the connection ends."""
    connection.info[_EXPECT]()


def end_waiting(connection: sa.pool.ManagesConnection) -> None:
    """The server has answered, and owes nothing."""
    if line := connection.info.get(_LINE):
        line.due = None


def mark_used(info: dict[str, Any], used_at: float) -> None:
    """Say of a connection that went back to its pool when its server has answered last."""
    info[_FREE_SINCE] = used_at


def silence_of(connection: sa.PoolProxiedConnection) -> NoAnswer | None:
    """Why a connection has failed that was used without SQLAlchemy, if its server was silent."""
    line: Line | None = connection.info.get(_LINE)
    if line is None or line.silent_s is None:
        return None
    return _no_answer(connection.info[_SERVER], line.silent_s)


def _no_answer(server: str, silent_s: float) -> NoAnswer:
    return NoAnswer(
        f"no answer from {server} within {silent_s:g} s; it is silent or overloaded, or "
        "the network drops its packets"
    )
