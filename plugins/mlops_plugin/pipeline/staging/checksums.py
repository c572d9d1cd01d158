"""Checksums of what is staged. A file of rows is a sequence of blocks, and none is used before it is checked.

A block is what Arrow writes for a batch, metadata and padding included; the first begins with the schema, and
the end of the stream is one more. So damage is found before Arrow sees it, and no byte is read twice.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from mlops_plugin.errors import StagingError
from mlops_plugin.pipeline.staging.relay import GrowingBlocks

# Size in bytes and CRC-32 of each block, in the file's order. In a note, a pair is a list of two.
Blocks = Sequence[Sequence[int]]


class BlocksInTurn(Protocol):
    """The blocks of a file, which may still be growing (`relay`)."""

    def __iter__(self) -> Iterator[Sequence[int]]: ...

    def __len__(self) -> int: ...


_SEAL = "crc32"


class BlockWriter:
    """The file that Arrow writes a stream into; counts and checks what passes."""

    closed = False  # Arrow asks

    def __init__(self, sink: Any, growing: GrowingBlocks | None = None) -> None:
        """`growing` hears of each block that can be read."""
        self.blocks: list[list[int]] = []
        self._growing = growing
        self._sink = sink
        self._size = self._crc = 0

    def write(self, data: pa.Buffer | bytes) -> int:
        view = memoryview(data)
        self._crc = zlib.crc32(view, self._crc)
        self._size += view.nbytes
        self._sink.write(view)
        return view.nbytes

    def end_block(self) -> None:
        """What was written since the last call is a block."""
        self.blocks.append([self._size, self._crc])
        self._size = self._crc = 0
        if self._growing is not None:
            self._sink.flush()
            self._growing.add(self.blocks[-1])

    def flush(self) -> None:
        """Whoever opened the file closes it."""


class BlockReader:
    """The file that Arrow reads a stream from; raises `StagingError` in place of a damaged block."""

    closed = False

    def __init__(self, read: Callable[[int], pa.Buffer | bytes], blocks: BlocksInTurn, path: str) -> None:
        """`read` gives the next bytes of the file at `path`, as many as asked for unless it ends."""
        self._intact = _intact(read, blocks, path)
        self._block = memoryview(b"")

    def read(self, size: int) -> memoryview:
        """The next bytes, without copying them; Arrow never asks beyond the end of a block."""
        if not self._block:
            self._block = next(self._intact, self._block)
        found, self._block = self._block[:size], self._block[size:]
        return found


def _intact(
    read: Callable[[int], pa.Buffer | bytes], blocks: BlocksInTurn, path: str
) -> Iterator[memoryview]:
    for number, (size, crc) in enumerate(blocks, 1):
        block = memoryview(read(size))
        if block.nbytes != size or zlib.crc32(block) != crc:
            raise _damaged(path, f"{_found(block.nbytes, size)} in block {number} of {len(blocks)}")
        yield block


def _found(size: int, expected: int) -> str:
    if size != expected:
        return f"{size} bytes, but {expected} were written"
    return "its bytes differ from those written"


def sealed(note: Mapping[str, Any]) -> dict[str, Any]:
    """A note with its checksum."""
    return {**note, _SEAL: _crc(note)}


def unsealed(content: bytes, path: str) -> dict[str, Any]:
    """The note without its checksum, which those written before there was one do not have.

    Raises `StagingError` if it is not as it was written; `path` is the file that was read.
    """
    try:
        note = json.loads(content.decode())
    except ValueError as error:  # also bytes that are no text
        raise _damaged(path, f"{len(content)} bytes that are no whole note") from error
    if not isinstance(note, dict):
        raise _damaged(path, "it is no note")
    seal = note.pop(_SEAL, None)
    if seal not in (None, _crc(note)):
        raise _damaged(path, "it differs from what was written")
    return note


def _crc(note: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(note).encode())


def _damaged(path: str, found: str) -> StagingError:
    return StagingError(
        f"staging: {path} is damaged: {found}; clear 'collect' and the tasks after it in Airflow to "
        "dispatch again, and check the disk or the store behind staging.url"
    )
