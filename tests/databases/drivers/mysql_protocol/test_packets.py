"""Packets are found in what arrives, wherever it is cut, and whatever their length."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_plugin.databases.drivers.mysql_protocol.packets import SLACK, ConnectionClosed, Packets
from mlops_plugin.databases.drivers.mysql_protocol.statements import Prepared, Statements

_END = b"\xfe\0\0\0\0"
_LONGEST = 2**24 - 1


class CutSocket:
    """Hands out what was sent in pieces of the sizes given, over and over."""

    def __init__(self, data: bytes, sizes: Sequence[int]) -> None:
        self._data = data
        self._sizes = list(sizes)
        self._taken = 0
        self.sent = b""

    def recv_into(self, buffer: memoryview, /) -> int:
        self._sizes.append(self._sizes.pop(0))
        piece = self._data[self._taken : self._taken + min(self._sizes[0], len(buffer))]
        buffer[: len(piece)] = piece
        self._taken += len(piece)
        return len(piece)

    def sendall(self, data: bytes, /) -> None:
        self.sent += data


def _packets(*payloads: bytes) -> bytes:
    sent = b""
    for payload in payloads:
        for number, start in enumerate(range(0, len(payload) + 1, _LONGEST)):
            part = payload[start : start + _LONGEST]
            sent += struct.pack("<I", len(part) | (number % 256) << 24) + part
    return sent


def _rows(data: bytes, sizes: Sequence[int], most_rows: int = 1000) -> list[bytes]:
    """The rows of one result that arrives in pieces of those sizes."""
    statements = Statements(Packets(CutSocket(data, sizes)))
    statements._has_rows = True
    rows = []
    for some in statements.rows(most_rows, 2**20):
        assert len(some.starts) <= most_rows
        assert len(some.buffer) >= some.starts[-1] + SLACK
        for start in some.starts.tolist():
            length = int.from_bytes(some.buffer[start - 4 : start - 1].tobytes(), "little")
            rows.append(some.buffer[start : start + length].tobytes())
    return rows


@given(
    rows=st.lists(st.binary(min_size=1, max_size=40), max_size=80),
    repeated=st.integers(1, 60),
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    most_rows=st.integers(1, 70),
)
@settings(deadline=None)
def test_rows_are_found_wherever_the_stream_is_cut(
    rows: list[bytes], repeated: int, sizes: list[int], most_rows: int
) -> None:
    sent = [b"\0" + row for row in rows] + [b"\0same"] * repeated
    assert _rows(_packets(*sent, _END), sizes, most_rows) == sent


def test_rows_longer_than_the_buffer_are_found() -> None:
    sent = [b"\0" + bytes([number]) * 3_000_000 for number in range(1, 4)] + [b"\0short"]
    assert _rows(_packets(*sent, _END), [65_536]) == sent


@pytest.mark.parametrize("length", [_LONGEST - 1, _LONGEST, _LONGEST + 1, 2 * _LONGEST])
def test_row_longer_than_a_packet_is_one_row(length: int) -> None:
    row = b"\0" + b"x" * (length - 1)
    client, server = socket.socketpair()
    with client, server:
        sending = threading.Thread(
            target=server.sendall, args=(_packets(b"\0before", row, b"\0after", _END),)
        )
        sending.start()
        statements = Statements(Packets(client))
        statements._has_rows = True
        found = [
            some.buffer[start:].tobytes()
            for some in statements.rows(100, 2**20)
            for start in some.starts.tolist()
        ]
        sending.join()
    assert [found[0][:7], found[1][:length], found[2][:6]] == [b"\0before", row, b"\0after"]
    assert len(found) == 3


@pytest.mark.parametrize("length", [_LONGEST - 1, _LONGEST, _LONGEST + 1])
def test_long_command_is_sent_in_packets(length: int) -> None:
    recorded = CutSocket(b"", [1])
    Packets(recorded).send(b"c" * length)
    assert recorded.sent == _packets(b"c" * length)


def test_connection_that_ends_inside_a_row_is_an_error() -> None:
    data = _packets(b"\0" + b"x" * 100, _END)[:50]
    with pytest.raises(ConnectionClosed):
        _rows(data, [20])


class InterruptedSocket(CutSocket):
    """Interrupts who waits for the first answer, as Ctrl+C and Airflow's timeout do."""

    def recv_into(self, buffer: memoryview, /) -> int:
        if not self._taken:
            self._taken = -1
            raise KeyboardInterrupt
        self._taken = max(self._taken, 0)
        return super().recv_into(buffer)


def test_answer_is_owed_until_it_has_arrived() -> None:
    inserted, prepared = b"\0\1\0\2\0\0\0", b"\0" + struct.pack("<IHH", 7, 0, 0)
    statements = Statements(Packets(InterruptedSocket(_packets(inserted, prepared), [1000])))
    statements.execute_ahead(Prepared(1, 0), b"")
    with pytest.raises(KeyboardInterrupt):
        statements.settle()
    statements.settle()
    assert statements.prepare("SELECT 1") == Prepared(7, 0)


class AnsweringSocket(CutSocket):
    """A server's, which notes how much it had been sent when each of its answers was taken."""

    def __init__(self, *answers: bytes) -> None:
        super().__init__(b"", [1])
        self._answers = [*answers]
        self.sent_before: list[int] = []

    def recv_into(self, buffer: memoryview, /) -> int:
        self.sent_before.append(len(self.sent))
        answer = _packets(self._answers.pop(0))
        buffer[: len(answer)] = answer
        return len(answer)


_INSERTED = b"\0\1\0\2\0\0\0"


def test_statement_is_sent_before_the_one_before_it_is_answered() -> None:
    server = AnsweringSocket(_INSERTED, _INSERTED, _INSERTED)
    statements = Statements(Packets(server))
    for _ in range(3):
        statements.execute_each_ahead(Prepared(1, 0), b"rows")
    sent = len(server.sent)
    statements.settle()
    assert server.sent_before == [sent * 2 // 3, sent, sent]


def test_refused_statement_is_raised_when_all_answers_were_taken() -> None:
    refused = b"\xff" + struct.pack("<H", 1062) + b"#23000Duplicate entry"
    statements = Statements(
        Packets(AnsweringSocket(refused, _INSERTED, b"\0" + struct.pack("<IHH", 7, 0, 0)))
    )
    statements.execute_each_ahead(Prepared(1, 0), b"rows")
    with pytest.raises(Exception, match="Duplicate entry"):
        statements.execute_each_ahead(Prepared(1, 0), b"rows")
    statements.settle()
    assert statements.prepare("SELECT 1") == Prepared(7, 0)


class ClosedSocket(AnsweringSocket):
    """Of a server that has refused the first statement, and closed the connection."""

    def sendall(self, data: bytes, /) -> None:
        if self.sent:
            raise BrokenPipeError
        super().sendall(data)


def test_server_that_closes_the_connection_has_the_last_word() -> None:
    killed = b"\xff" + struct.pack("<H", 1927) + b"#70100Connection was killed"
    statements = Statements(Packets(ClosedSocket(killed)))
    statements.execute_each_ahead(Prepared(1, 0), b"rows")
    with pytest.raises(Exception, match="Connection was killed"):
        statements.execute_each_ahead(Prepared(1, 0), b"rows")


def test_numbers_are_read_at_every_place() -> None:
    from mlops_plugin.databases.drivers.mysql_protocol.binary_rows import Cells

    buffer = np.frombuffer(b"x" + struct.pack("<dhq", 0.1, -2, 2**62) + bytes(SLACK), np.uint8)
    cells = Cells(buffer, np.array([1, 1]), np.array([False, True]))
    assert cells.numbers("<f8").tolist() == [0.1, 0.1]
    assert cells.numbers("<i2", 8).tolist() == [-2, -2]
    assert cells.numbers("<i8", 10).tolist() == [2**62, 2**62]
