"""Asks the ODBC driver manager what arrow-odbc does not tell: engine, driver names, exact column types.

arrow-odbc sees only the general SQL type of a column. An unsigned BIGINT looks signed to it, a double of
PostgreSQL like a float, and for some types it ends the process. The C interface knows better, and it
describes a query without running it. https://learn.microsoft.com/sql/odbc/reference/syntax/odbc-api-reference
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_ENV, _CONNECTION, _STATEMENT = 1, 2, 3
_ATTR_ODBC_VERSION, _ODBC_3 = 200, 3
_ATTR_LOGIN_TIMEOUT = 103
_FETCH_NEXT, _FETCH_FIRST = 1, 2
_INFO_DRIVER_NAME, _INFO_DRIVER_VERSION, _INFO_DBMS_NAME, _INFO_IDENTIFIER_QUOTE = 6, 7, 17, 29
_DESC_CONCISE_TYPE, _DESC_UNSIGNED, _DESC_TYPE_NAME = 2, 8, 14
_DESC_LENGTH, _DESC_PRECISION, _DESC_SCALE, _DESC_NAME = 1003, 1005, 1006, 1011
_SUCCEEDED = (0, 1)  # success, success with a message
_CONNECT_QUIETLY = 0
BIGINT, BIT, REAL = -5, -7, 7  # sql_type


class OdbcError(Exception):
    """The driver's own words."""


@dataclass(frozen=True)
class OdbcColumn:
    """A column of a query's result, as the driver describes it."""

    name: str
    sql_type: int
    type_name: str  # the engine's word, lower case: bigint, numeric, float4, ...
    is_unsigned: bool
    length: int  # characters or bytes; what the driver says, at times nonsense
    precision: int
    scale: int


class DriverManager:
    """A connection of the driver manager, for questions only. Raises `OSError` without libodbc."""

    def __init__(self, connection_string: str, timeout_s: int) -> None:
        self._library = _load()
        self._environment = self._allocate(_ENV, None)
        self._connection: ctypes.c_void_p | None = None
        try:
            version = ctypes.c_void_p(_ODBC_3)
            self._library.SQLSetEnvAttr(self._environment, _ATTR_ODBC_VERSION, version, 0)
            self._connection = self._allocate(_CONNECTION, self._environment)
            self._connect(connection_string, timeout_s)
        except BaseException:
            self.close()
            raise

    def dbms_name(self) -> str:
        """What the driver calls its engine: MariaDB, PostgreSQL, SQLite, Microsoft SQL Server, ..."""
        return self._info(_INFO_DBMS_NAME)

    def driver_name(self) -> str:
        """The driver's library: libmaodbc.so, psqlodbcw.so, ..."""
        return self._info(_INFO_DRIVER_NAME)

    def driver_version(self) -> tuple[int, ...]:
        """(3, 1, 15) if the driver says 03.01.0015."""
        return tuple(int(part) for part in re.findall(r"\d+", self._info(_INFO_DRIVER_VERSION))[:3])

    def identifier_quote(self) -> str:
        """What stands around a quoted name; empty if the engine has no such thing."""
        return self._info(_INFO_IDENTIFIER_QUOTE).strip()

    def columns(self, query: str) -> tuple[OdbcColumn, ...]:
        """Prepare a query, which runs nothing, and describe its columns."""
        statement = self._allocate(_STATEMENT, self._connection)
        try:
            text = query.encode()
            self._check(self._library.SQLPrepare(statement, text, len(text)), _STATEMENT, statement)
            count = ctypes.c_int16()
            counted = self._library.SQLNumResultCols(statement, ctypes.byref(count))
            self._check(counted, _STATEMENT, statement)
            return tuple(self._column(statement, number) for number in range(1, count.value + 1))
        finally:
            self._library.SQLFreeHandle(_STATEMENT, statement)

    def close(self) -> None:
        """Disconnect and free; may be called twice."""
        if self._connection is not None:
            self._library.SQLDisconnect(self._connection)
            self._library.SQLFreeHandle(_CONNECTION, self._connection)
            self._connection = None
        if self._environment is not None:
            self._library.SQLFreeHandle(_ENV, self._environment)
            self._environment = None  # type: ignore[assignment]

    def _connect(self, connection_string: str, timeout_s: int) -> None:
        timeout = ctypes.c_void_p(timeout_s)
        self._library.SQLSetConnectAttr(self._connection, _ATTR_LOGIN_TIMEOUT, timeout, 0)
        text = connection_string.encode()
        written = ctypes.c_int16()
        answer = self._library.SQLDriverConnect(
            self._connection, None, text, len(text), None, 0, ctypes.byref(written), _CONNECT_QUIETLY
        )
        self._check(answer, _CONNECTION, self._connection)

    def _column(self, statement: ctypes.c_void_p, number: int) -> OdbcColumn:
        return OdbcColumn(
            name=self._text(statement, number, _DESC_NAME),
            sql_type=self._number(statement, number, _DESC_CONCISE_TYPE),
            type_name=self._text(statement, number, _DESC_TYPE_NAME).lower(),
            is_unsigned=bool(self._number(statement, number, _DESC_UNSIGNED)),
            length=self._number(statement, number, _DESC_LENGTH),
            precision=self._number(statement, number, _DESC_PRECISION),
            scale=self._number(statement, number, _DESC_SCALE),
        )

    def _text(self, statement: ctypes.c_void_p, number: int, what: int) -> str:
        buffer = ctypes.create_string_buffer(1024)
        length = ctypes.c_int16()
        self._library.SQLColAttribute(
            statement, number, what, buffer, len(buffer), ctypes.byref(length), None
        )
        return buffer.value.decode(errors="replace")

    def _number(self, statement: ctypes.c_void_p, number: int, what: int) -> int:
        value = ctypes.c_ssize_t()
        self._library.SQLColAttribute(statement, number, what, None, 0, None, ctypes.byref(value))
        return value.value

    def _info(self, what: int) -> str:
        buffer = ctypes.create_string_buffer(512)
        length = ctypes.c_int16()
        answer = self._library.SQLGetInfo(self._connection, what, buffer, len(buffer), ctypes.byref(length))
        self._check(answer, _CONNECTION, self._connection)
        return buffer.value.decode(errors="replace")

    def _allocate(self, kind: int, parent: ctypes.c_void_p | None) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        if self._library.SQLAllocHandle(kind, parent, ctypes.byref(handle)) not in _SUCCEEDED:
            raise OdbcError("the ODBC driver manager could not allocate a handle")
        return handle

    def _check(self, answer: int, kind: int, handle: ctypes.c_void_p | None) -> None:
        if answer not in _SUCCEEDED:
            raise OdbcError(
                "\n".join(self._messages(kind, handle)) or f"ODBC answered {answer} without a message"
            )

    def _messages(self, kind: int, handle: ctypes.c_void_p | None) -> Iterator[str]:
        state, text = ctypes.create_string_buffer(6), ctypes.create_string_buffer(4096)
        native, length = ctypes.c_int32(), ctypes.c_int16()
        for number in range(1, 10):
            answer = self._library.SQLGetDiagRec(
                kind, handle, number, state, ctypes.byref(native), text, len(text), ctypes.byref(length)
            )
            if answer not in _SUCCEEDED:
                return
            yield (
                f"State: {state.value.decode()}, Native error: {native.value}, Message: "
                + text.value.decode(errors="replace")
            )


def installed_drivers() -> list[str]:
    """The names that `DRIVER={...}` may have here."""
    library = _load()
    with _environment(library) as environment:
        names = []
        name, attributes = ctypes.create_string_buffer(256), ctypes.create_string_buffer(1024)
        length, other = ctypes.c_int16(), ctypes.c_int16()
        direction = _FETCH_FIRST
        while (
            library.SQLDrivers(
                environment,
                direction,
                name,
                len(name),
                ctypes.byref(length),
                attributes,
                len(attributes),
                ctypes.byref(other),
            )
            in _SUCCEEDED
        ):
            names.append(name.value.decode(errors="replace"))
            direction = _FETCH_NEXT
    return sorted(names)


@contextmanager
def _environment(library: ctypes.CDLL) -> Iterator[ctypes.c_void_p]:
    handle = ctypes.c_void_p()
    library.SQLAllocHandle(_ENV, None, ctypes.byref(handle))
    try:
        library.SQLSetEnvAttr(handle, _ATTR_ODBC_VERSION, ctypes.c_void_p(_ODBC_3), 0)
        yield handle
    finally:
        library.SQLFreeHandle(_ENV, handle)


def _load() -> ctypes.CDLL:
    # The library that arrow-odbc is linked to: a driver must not be loaded by two driver managers.
    library = ctypes.CDLL("libodbc.2.dylib" if sys.platform == "darwin" else "libodbc.so.2")
    void, short = ctypes.c_void_p, ctypes.c_int16
    number = ctypes.POINTER(short)
    # Handles are pointers: without these, ctypes would hand over their lower 32 bits.
    signatures = {
        "SQLAllocHandle": [short, void, void],
        "SQLFreeHandle": [short, void],
        "SQLSetEnvAttr": [void, ctypes.c_int32, void, ctypes.c_int32],
        "SQLSetConnectAttr": [void, ctypes.c_int32, void, ctypes.c_int32],
        "SQLDriverConnect": [void, void, ctypes.c_char_p, short, void, short, number, ctypes.c_uint16],
        "SQLDisconnect": [void],
        "SQLGetInfo": [void, ctypes.c_uint16, void, short, number],
        "SQLPrepare": [void, ctypes.c_char_p, ctypes.c_int32],
        "SQLNumResultCols": [void, number],
        "SQLColAttribute": [void, ctypes.c_uint16, ctypes.c_uint16, void, short, number, void],
        "SQLGetDiagRec": [short, void, short, void, void, void, short, number],
        "SQLDrivers": [void, ctypes.c_uint16, void, short, number, void, short, number],
    }
    for name, arguments in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, short
    return library
