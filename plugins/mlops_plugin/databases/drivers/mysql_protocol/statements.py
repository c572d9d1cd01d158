"""Prepared statements: what they are sent, and what comes back."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_plugin.databases.drivers.mysql_protocol.packets import HEADER, SLACK, Packets

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PREPARE, _EXECUTE, _CLOSE, _EXECUTE_FOR_EACH = 0x16, 0x17, 0x19, 0xFA
_OK, _ERROR, _END = 0x00, 0xFF, 0xFE
_LONGEST_END = 8  # bytes; a longer payload that begins with the same byte is something else
_MORE_RESULTS = 8  # a bit of the server's status


@dataclass(frozen=True)
class ColumnDefinition:
    """A column of a result, in the server's numbers; `decimals` are the digits after the point."""

    name: str
    kind: int
    flags: int
    charset: int
    decimals: int


@dataclass(frozen=True)
class Prepared:
    """A statement that the server has prepared, and how many parameter marks it has."""

    number: int
    marks: int


@dataclass(frozen=True)
class Rows:
    """Rows of a result: `starts[i]` is where row i's payload begins in `buffer`."""

    buffer: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]


class Statements:
    """Prepares and executes statements; the answer to one is read to its end before the next.

    Each method raises what mysql.connector raises for an error that the server sends, and `OSError`.
    """

    def __init__(self, packets: Packets) -> None:
        self._packets = packets
        self._has_rows = False
        self._owed = 0  # answers that are to come

    def prepare(self, statement: str) -> Prepared:
        """Let the server prepare a statement."""
        self.settle()
        self._packets.send(bytes([_PREPARE]) + statement.encode())
        number, columns, marks = struct.unpack_from("<xIHH", self._answer())
        for count in (marks, columns):
            if count:
                self._skip_definitions(count)
        return Prepared(number, marks)

    def forget(self, prepared: Prepared) -> None:
        """Let the server forget a statement; it does not answer."""
        self._packets.send(struct.pack("<BI", _CLOSE, prepared.number))

    def query(self, prepared: Prepared, parameters: bytes) -> list[ColumnDefinition]:
        """Execute a statement; returns the columns of its rows, or none if it has no rows."""
        self.settle()
        self._send_execute(prepared, parameters)
        first = self._answer()
        if first[0] == _OK:
            self._skip_results(_status_of_ok(first))
            return []
        columns, _ = _length(first, 0)
        definitions = [_definition(self._answer()) for _ in range(columns)]
        self._answer()  # the end of the definitions
        self._has_rows = True
        return definitions

    def rows(self, most_rows: int, most_bytes: int) -> Iterator[Rows]:
        """The rows of the query that was executed last, some at a time.

        `most_bytes` bounds what is held at once, except for one row.
        """
        import numpy as np

        while self._has_rows:
            buffer, starts = self._packets.receive_rows(most_rows, most_bytes)
            if len(starts):
                yield Rows(buffer, starts)
                continue
            payload = self._answer()
            if not self._ends_rows(payload):
                yield Rows(np.frombuffer(payload + bytes(SLACK), np.uint8), np.zeros(1, np.int64))

    def finish(self) -> None:
        """Skip the rows that nobody took."""
        for _ in self.rows(100_000, 2**24):
            pass

    def execute_ahead(self, prepared: Prepared, parameters: bytes) -> None:
        """Let the server execute a statement that has no rows, behind the one that it still works on.

        It is sent before that one's answer is there, so that the server finds it as soon as it has answered.
        Its own answer is left to the next call, so that rows can be encoded meanwhile, and at last to
        `settle`: nobody else may use the connection before.
        """
        self._ahead(lambda: self._send_execute(prepared, parameters))

    def execute_each_ahead(self, prepared: Prepared, rows: bytes) -> None:
        """As `execute_ahead`, once for each of many rows of parameters, which MariaDB can."""
        head = struct.pack("<BI", _EXECUTE_FOR_EACH, prepared.number)
        self._ahead(lambda: self._packets.send(head + rows))

    def _ahead(self, send: Callable[[], None]) -> None:
        try:
            send()
        except OSError:
            self.settle()  # raises the error that the server sent before it closed the connection
            raise
        self._owed += 1
        self.settle(but=1)

    def settle(self, but: int = 0) -> None:
        """Take the answers that are left, `but` so many; raises what the first that is an error says."""
        refused = None
        while self._owed > but:
            payload = self._packets.receive()
            self._owed -= 1  # only now: who is interrupted while waiting can settle again
            refused = refused or (payload if payload[0] == _ERROR else None)
        if refused is not None:
            self._refuse_error(refused)

    def _send_execute(self, prepared: Prepared, parameters: bytes) -> None:
        without_cursor, times = 0, 1
        self._packets.send(
            struct.pack("<BIBI", _EXECUTE, prepared.number, without_cursor, times) + parameters
        )

    def _answer(self) -> bytes:
        payload = self._packets.receive()
        self._refuse_error(payload)
        return payload

    def _refuse_error(self, payload: bytes) -> None:
        if payload[0] == _ERROR:
            from mysql.connector.errors import get_exception

            self._has_rows = False
            raise get_exception(bytes(HEADER) + payload)

    def _ends_rows(self, payload: bytes) -> bool:
        """Whether this is no row, but the end of a result's rows."""
        if not _is_end(payload):
            return False
        self._has_rows = False
        self._skip_results(_status_of_end(payload))
        return True

    def _skip_definitions(self, count: int) -> None:
        for _ in range(count + 1):  # and their end
            self._answer()

    def _skip_results(self, status: int) -> None:
        """Skip the results that a CALL sends behind its first one."""
        while status & _MORE_RESULTS:
            first = self._answer()
            if first[0] == _OK:
                status = _status_of_ok(first)
                continue
            self._skip_definitions(_length(first, 0)[0])
            while not _is_end(payload := self._answer()):
                pass
            status = _status_of_end(payload)


def _is_end(payload: bytes) -> bool:
    return payload[0] == _END and len(payload) <= _LONGEST_END


def _status_of_end(payload: bytes) -> int:
    return int.from_bytes(payload[3:5], "little")


def _status_of_ok(payload: bytes) -> int:
    _, at = _length(payload, 1)  # how many rows were affected
    _, at = _length(payload, at)  # the last number that the server gave
    return int.from_bytes(payload[at : at + 2], "little")


def _definition(payload: bytes) -> ColumnDefinition:
    at = 0
    texts = []
    for _ in ("catalogue", "schema", "table", "table's own name", "name", "column's own name"):
        length, at = _length(payload, at)
        texts.append(payload[at : at + length])
        at += length
    _, at = _length(payload, at)  # of what follows
    charset, _, kind, flags, decimals = struct.unpack_from("<HIBHB", payload, at)
    return ColumnDefinition(texts[4].decode(), kind, flags, charset, decimals)


def _length(payload: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where the next thing begins."""
    first = payload[at]
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
    if not size:
        return first, at + 1
    return int.from_bytes(payload[at + 1 : at + 1 + size], "little"), at + 1 + size
