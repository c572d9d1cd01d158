"""Rows reach the process in memory that is written once; rows that it keeps are never overwritten."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_plugin.errors import ServingError
from mlops_plugin.workers.row_memory import RowMemory, RowView, stream_size
from support.full_disk import no_file_beyond


def _rows(value: float) -> pa.RecordBatch:
    return pa.record_batch({"a": pa.array([value] * 20_000)})


def _arrived(view: RowView, size: int) -> pa.RecordBatch:
    with pa.ipc.open_stream(pa.py_buffer(view.lend(size))) as stream:
        return stream.read_next_batch()


def test_rows_are_read_where_they_were_written() -> None:
    memory, view = RowMemory(), RowView()
    size = stream_size(_rows(1))
    assert memory.put(_rows(1), size)
    view.open(os.dup(memory.fd))
    arrived = _arrived(view, size)
    assert arrived.equals(_rows(1))
    assert not view.take_back()
    del arrived
    assert not memory.put(_rows(2), size)
    assert _arrived(view, size).equals(_rows(2))
    assert view.take_back()
    memory.renew()


def test_new_memory_leaves_the_rows_that_are_kept_as_they_were() -> None:
    memory, view = RowMemory(), RowView()
    size = stream_size(_rows(1))
    memory.put(_rows(1), size)
    view.open(os.dup(memory.fd))
    kept = _arrived(view, size)
    memory.renew()
    assert memory.put(_rows(2), size)
    view.open(os.dup(memory.fd))
    assert _arrived(view, size).equals(_rows(2))
    assert kept.equals(_rows(1))
    memory.renew()


def test_the_process_cannot_shrink_the_memory_under_its_caller() -> None:
    memory = RowMemory()
    memory.put(_rows(1), stream_size(_rows(1)))
    with pytest.raises(PermissionError):
        os.ftruncate(memory.fd, 0)
    with pytest.raises(PermissionError):
        fcntl.fcntl(memory.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    memory.renew()


def test_larger_rows_get_larger_memory() -> None:
    memory, view = RowMemory(), RowView()
    many = pa.record_batch({"a": pa.array([1.5] * 500_000)})
    memory.put(_rows(1), stream_size(_rows(1)))
    assert memory.put(many, stream_size(many))
    view.open(os.dup(memory.fd))
    assert _arrived(view, stream_size(many)).equals(many)
    memory.renew()


def test_rows_that_could_not_be_written_leave_no_memory_that_nobody_was_handed() -> None:
    memory, many = RowMemory(), pa.concat_batches([_rows(1)] * 200)
    with pytest.raises(OSError, match="out of bounds"):
        memory.put(many, 100)
    assert memory.put(_rows(1), 100)
    memory.renew()


def _opened() -> int:
    """How many memories for rows this process has open."""
    return sum("memfd:rows" in str(one.resolve()) for one in Path("/proc/self/fd").iterdir())


def test_memory_that_cannot_be_had_is_a_clear_error_and_leaves_nothing_open() -> None:
    memory, opened = RowMemory(), _opened()
    with no_file_beyond(1000), pytest.raises(ServingError, match="File too large"):
        memory.put(_rows(1), stream_size(_rows(1)))
    assert _opened() == opened
    assert memory.put(_rows(1), stream_size(_rows(1)))
    memory.renew()
