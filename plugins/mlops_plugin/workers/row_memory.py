"""Memory that a model's process reads rows from: written once by the caller, copied by nobody.

Only the caller writes; it never reads, so a process that is not trusted can tell it nothing this way, and the
memory cannot shrink below what is mapped. Linux has it; elsewhere, and for few rows, the socket carries them.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from dataclasses import dataclass, field

import pyarrow as pa

from mlops_plugin.errors import ServingError

SMALLEST_BYTES = 1 << 16  # fewer are as fast through the socket
AT_ONCE = 2  # batches: the process reads one while the caller writes the next
_GRANULE_BYTES = 1 << 20
_OPTIONS = pa.ipc.IpcWriteOptions()  # the usual ones; Arrow would look for them in the environment each time


@dataclass
class RowMemory:
    """The caller's end. `fd` is for the process that reads."""

    fd: int = -1
    _map: mmap.mmap | None = None

    def put(self, rows: pa.RecordBatch, size: int) -> bool:
        """Write rows as an Arrow IPC stream of `size` bytes; returns whether this is new memory.

        Raises `ServingError` if there is none.
        """
        is_new = self._map is None or len(self._map) < size
        if is_new:
            self.renew()
            self._map = self._made(size)
        try:
            writer = pa.FixedSizeBufferWriter(pa.py_buffer(self._map))
            with writer, pa.ipc.new_stream(writer, rows.schema) as stream:
                stream.write_batch(rows)
        except BaseException:
            self.renew()  # nobody has been handed it, so the next rows must not count on it
            raise
        return is_new

    def renew(self) -> None:
        """Let go of this memory: the process may keep rows in it. Also the last act."""
        if self._map is not None:
            os.close(self.fd)
            # Arrow may not have let go of it yet; it is unmapped with the last reference.
            self.fd, self._map = -1, None

    def _made(self, size: int) -> mmap.mmap:
        room = -(-size // _GRANULE_BYTES) * _GRANULE_BYTES
        try:
            self.fd = os.memfd_create("rows", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self.fd, room)
            # A process that made it smaller would have the kernel kill the caller.
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
            return mmap.mmap(self.fd, room)
        except OSError as error:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1
            raise ServingError(
                f"a model's process cannot be given {room} bytes of rows: {error}; check what limits memory, "
                "open files and sizes of files here, and that the container allows memfd_create"
            ) from error


@dataclass(frozen=True)
class Lent:
    """A memory that a request is about; `handing` has its descriptor if the process does not know it."""

    number: int
    handing: tuple[int, ...]


@dataclass
class RowMemories:
    """The memories of one process. One is lent to each request until that is answered."""

    _all: tuple[RowMemory, ...] = field(default_factory=lambda: tuple(RowMemory() for _ in range(AT_ONCE)))
    _free: list[int] = field(default_factory=lambda: list(range(AT_ONCE)))

    def lend(self, rows: pa.RecordBatch, size: int) -> Lent:
        """Put rows of so many bytes into a free memory, the one that was used last if there is a choice."""
        number = self._free[-1]
        memory = self._all[number]
        lent = Lent(number, (memory.fd,) if memory.put(rows, size) else ())
        self._free.pop()
        return lent

    def take_back(self, lent: Lent, *, is_free: bool) -> None:
        """The request has ended; unless `is_free`, the process may hold these rows, and gets new memory."""
        if not is_free:
            self._all[lent.number].renew()
        self._free.append(lent.number)

    def release(self) -> None:
        """Let go of all."""
        for memory in self._all:
            memory.renew()


@dataclass
class RowView:
    """The process's end: maps what the caller has made, to read."""

    _map: mmap.mmap | None = None
    _lent: memoryview | None = None

    def open(self, fd: int) -> None:
        """Use this memory from now on."""
        self._map = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        os.close(fd)

    def lend(self, size: int) -> memoryview:
        """The first bytes, for one request."""
        if self._map is None:
            raise RuntimeError("no memory was handed over")
        view = memoryview(self._map)[:size]
        self._lent = view
        return view

    def take_back(self) -> bool:
        """End the request; returns False if the model still holds rows, which must then stay as they are."""
        view, self._lent = self._lent, None
        try:
            if view is not None:
                view.release()
        except BufferError:
            return False
        return True


def is_supported() -> bool:
    return hasattr(os, "memfd_create") and hasattr(fcntl, "F_ADD_SEALS")


def stream_size(rows: pa.RecordBatch) -> int:
    """Bytes of the rows as an Arrow IPC stream."""
    sink = pa.MockOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_batch(rows)
    return int(sink.size())


def stream_bytes(rows: pa.RecordBatch) -> pa.Buffer:
    """The rows as an Arrow IPC stream, for a message."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=_OPTIONS) as writer:
        writer.write_batch(rows)
    return sink.getvalue()
