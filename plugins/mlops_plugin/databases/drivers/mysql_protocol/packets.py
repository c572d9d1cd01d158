"""Packets of the MySQL client/server protocol on a socket that is logged in.

https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html and, for what only MariaDB has,
https://mariadb.com/kb/en/clientserver-protocol/.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

HEADER = 4  # bytes before each packet's payload: three of its length, one of its number
_LONGEST = 2**24 - 1  # a payload of this length goes on in the next packet
_FIRST_BUFFER = 2**20
# Bytes behind the last one received that may be read, but mean nothing: numpy takes eight bytes at once.
SLACK = 16
# So many rows of one length are found by one comparison; between them, they are found one by one.
_RUN = 16
_ONE_BY_ONE = 256
_ROW = 0  # what a row's payload begins with


class Socket(Protocol):
    """What packets need of a socket, plain or of TLS."""

    def recv_into(self, buffer: memoryview, /) -> int: ...

    def sendall(self, data: bytes, /) -> None: ...


class ConnectionClosed(OSError):
    """The server closed the connection."""


class Packets:
    """Sends and receives packets on a connected socket."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._buffer = bytearray(_FIRST_BUFFER + SLACK)
        self._begin = 0  # of what was received and not taken
        self._end = 0

    def send(self, payload: bytes) -> None:
        """Send a command, in as many packets as it needs. Raises `OSError`."""
        for number, start in enumerate(range(0, len(payload) + 1, _LONGEST)):
            part = payload[start : start + _LONGEST]
            self._socket.sendall(struct.pack("<I", len(part) | (number % 256) << 24) + part)

    def receive(self) -> bytes:
        """One payload, whatever its length. Raises `OSError`."""
        parts = []
        while True:
            while not self._is_whole(self._begin):
                self._receive_some()
            start = self._begin + HEADER
            self._begin = start + self._length_at(self._begin)
            parts.append(bytes(self._buffer[start : self._begin]))
            if len(parts[-1]) < _LONGEST:
                return b"".join(parts)

    def receive_rows(
        self, most_rows: int, most_bytes: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """The payloads that begin as rows do, up to the first one that does not.

        Returns:
            A buffer with `SLACK` bytes to spare, and where each row's payload begins in it: no row if the
            next payload is none, or is longer than a packet; `receive` has it. Valid until more is received.
        """
        import numpy as np

        self._move_to_front()
        found: list[npt.NDArray[np.int64]] = []
        rows, position = 0, self._begin
        while rows < most_rows and position - self._begin < most_bytes:
            starts, behind = self._rows_at(position, most_rows - rows)
            if len(starts):
                found.append(starts)
                rows, position = rows + len(starts), behind
            elif self._end - position > HEADER and not self._is_row(position):
                break
            else:
                moved = self._receive_some()
                position -= moved
                found = [starts - moved for starts in found] if moved else found
        self._begin = position
        starts = np.concatenate(found) if found else np.empty(0, np.int64)
        return np.frombuffer(self._buffer, np.uint8), starts

    def _rows_at(self, position: int, most: int) -> tuple[npt.NDArray[np.int64], int]:
        """Where rows that have arrived whole begin, from `position` on, and where the last of them ends."""
        import numpy as np

        size = HEADER + self._length_at(position)
        run = self._run_at(position, size, most)
        if run >= _RUN:
            return position + HEADER + np.arange(run) * size, position + run * size
        buffer, end = self._buffer, self._end
        starts: list[int] = []
        while len(starts) < min(most, _ONE_BY_ONE) and position + HEADER < end:
            length = buffer[position] | buffer[position + 1] << 8 | buffer[position + 2] << 16
            behind = position + HEADER + length
            if behind > end or length == _LONGEST or buffer[position + HEADER] != _ROW:
                break
            starts.append(position + HEADER)
            position = behind
        return np.array(starts, np.int64), position

    def _run_at(self, position: int, size: int, most: int) -> int:
        """How many rows of `size` bytes, header included, follow each other from `position` on."""
        import numpy as np

        count = min((self._end - position) // size, most)
        if count < _RUN or not self._is_row(position):
            return 0
        heads = np.ndarray((count,), "<u4", self._buffer, position, (size,))
        marks = np.ndarray((count,), np.uint8, self._buffer, position + HEADER, (size,))
        is_same = (heads & _LONGEST == size - HEADER) & (marks == _ROW)
        return count if is_same.all() else int(np.argmin(is_same))

    def _is_row(self, position: int) -> bool:
        return self._buffer[position + HEADER] == _ROW and 0 < self._length_at(position) < _LONGEST

    def _is_whole(self, position: int) -> bool:
        has_header = self._end - position >= HEADER
        return has_header and self._end - position >= HEADER + self._length_at(position)

    def _length_at(self, position: int) -> int:
        return int.from_bytes(self._buffer[position : position + 3], "little")

    def _receive_some(self) -> int:
        """Receive at least a byte; returns by how much what was received has moved in the buffer."""
        moved = 0
        if len(self._buffer) - SLACK - self._end < _FIRST_BUFFER // 2:
            moved = self._make_room()
        space = memoryview(self._buffer)[self._end : len(self._buffer) - SLACK]
        received = self._socket.recv_into(space)
        if not received:
            raise ConnectionClosed("the server closed the connection")
        self._end += received
        return moved

    def _move_to_front(self) -> None:
        """Use the buffer again, whose memory the system has given already."""
        waiting = memoryview(self._buffer)[self._begin : self._end]
        memoryview(self._buffer)[: len(waiting)] = waiting
        self._begin, self._end = 0, len(waiting)

    def _make_room(self) -> int:
        waiting = self._end - self._begin
        room = bytearray(max(2 * waiting, _FIRST_BUFFER) + SLACK)
        room[:waiting] = memoryview(self._buffer)[self._begin : self._end]
        moved, self._buffer, self._begin, self._end = self._begin, room, 0, waiting
        return moved
