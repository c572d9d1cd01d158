"""A staged file that is not as it was written is never read as if it were, whichever byte of it changed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from mlops_plugin.errors import StagingError
from mlops_plugin.events.records import Step
from mlops_plugin.pipeline.runner import run_dispatch
from mlops_plugin.pipeline.staging.shelf import OnRows, Shelf, Staged, unheard
from support.rejected_rows import tables
from support.servers import ServerDatabase
from support.sinks import MODES, Mode
from support.workshop import Workshop

_ROWS = {
    "id": pa.array([1, 2, 3]),
    "score": pa.array([0.5, None, float("inf")]),
    "text": pa.array(["züge 🚂", "", None]),
    "class": pa.array(["a", "b", "a"]).dictionary_encode(),
    "amount": pa.array([Decimal("1.50"), None, Decimal("-2.25")], pa.decimal128(10, 2)),
    "at": pa.array([datetime(2026, 1, 2, tzinfo=UTC)] * 3, pa.timestamp("us", "UTC")),
    "is_new": pa.array([True, None, False]),
}
_BATCH = pa.RecordBatch.from_arrays(list(_ROWS.values()), names=list(_ROWS))
_DAMAGED = r"block \d+"


def put(shelf: Shelf, batches: int = 3) -> Staged:
    file, _ = shelf.put("collect", _BATCH.schema, [_BATCH] * batches)
    return file


def content(shelf: Shelf, file: Staged) -> tuple[Any, str, bytes]:
    filesystem, root = fsspec.core.url_to_fs(shelf.url)
    path = f"{root}/{file.name}"
    return filesystem, path, filesystem.cat_file(path)


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << place % 8
    return bytes(changed)


def damage(file: Path) -> None:
    """Change one bit of what was written last: of the last batch, not of the end behind it."""
    data = file.read_bytes()
    file.write_bytes(flipped(data, len(data) - 9))


@pytest.mark.slow
def test_no_flipped_bit_is_read(shelf: Shelf) -> None:
    file = put(shelf)
    filesystem, path, data = content(shelf, file)
    for place in range(len(data)):
        filesystem.pipe_file(path, flipped(data, place))
        with pytest.raises(StagingError, match=_DAMAGED) as error, shelf.rows(file) as rows:
            rows.read_all()
        assert file.name in str(error.value)
    filesystem.pipe_file(path, data)
    with shelf.rows(file) as rows:
        assert rows.read_all() == pa.Table.from_batches([_BATCH] * 3)


@pytest.mark.slow
def test_no_file_that_ends_too_early_is_read(shelf: Shelf) -> None:
    file = put(shelf)
    filesystem, path, data = content(shelf, file)
    for size in range(len(data)):
        filesystem.pipe_file(path, data[:size])
        with pytest.raises(StagingError, match=r"\b\d+ bytes"), shelf.rows(file) as rows:
            rows.read_all()


def test_batches_before_the_damage_are_given_out_and_none_behind_it(shelf: Shelf) -> None:
    file = put(shelf)
    filesystem, path, data = content(shelf, file)
    assert file.blocks is not None
    filesystem.pipe_file(path, flipped(data, sum(size for size, _ in file.blocks[:2])))
    with shelf.rows(file) as rows:
        assert [rows.read_next_batch(), rows.read_next_batch()] == [_BATCH, _BATCH]
        with pytest.raises(StagingError, match="block 3 of 4"):
            rows.read_next_batch()


def test_a_file_without_rows_is_checked_too(shelf: Shelf) -> None:
    file = put(shelf, batches=0)
    filesystem, path, data = content(shelf, file)
    for place in range(len(data)):
        filesystem.pipe_file(path, flipped(data, place))
        with pytest.raises(StagingError, match=_DAMAGED), shelf.rows(file) as rows:
            rows.read_all()


def test_no_flipped_bit_of_a_note_is_read(shelf: Shelf) -> None:
    note = {"file": "collect-1.arrow", "rows": 3, "blocks": [[10, 2**32 - 1]], "mark": {"value": "é 1.5"}}
    shelf.put_note("collect", note)
    filesystem, root = fsspec.core.url_to_fs(shelf.url)
    path = f"{root}/collect.json"
    data = filesystem.cat_file(path)
    refused = 0
    for place in range(len(data)):
        for bit in range(8):
            filesystem.pipe_file(path, data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            try:
                found = shelf.note("collect")
            except StagingError as error:
                said = str(error)  # most bits, and not all, are refused
                assert "collect.json is damaged" in said
                assert "clear 'collect'" in said
                refused += 1
            else:  # a blank between two values, or the name of the checksum
                assert {name: found[name] for name in note} == note
    assert refused > len(data) * 6


def test_a_note_that_ends_too_early_says_what_to_do(shelf: Shelf) -> None:
    shelf.put_note("collect", {"rows": 3})
    filesystem, root = fsspec.core.url_to_fs(shelf.url)
    for content in (b"", b"{", b"3", b"null"):
        filesystem.pipe_file(f"{root}/collect.json", content)
        with pytest.raises(StagingError, match=r"collect\.json is damaged.*clear 'collect'"):
            shelf.note("collect")


def damage_staged(workshop: Workshop, pattern: str) -> None:
    (file,) = (workshop.home / "staging").glob(f"*/*/{pattern}")
    damage(file)


def run_damaged(workshop: Workshop, before: Step, pattern: str) -> None:
    """Dispatch; the one staged file with such a name is damaged before that step, which says so."""

    @contextlib.contextmanager
    def watch(step: Step) -> Iterator[OnRows]:
        if step == before:
            damage_staged(workshop, pattern)
        yield unheard

    dispatch = workshop.dispatch()
    with pytest.raises(StagingError, match=_DAMAGED):
        run_dispatch(dispatch, workshop.deployment, lambda: dispatch.model.source.query, watch)
    assert "is damaged" in (workshop.record(dispatch.id).error or "")


def left_by(workshop: Workshop, step: str) -> list[str]:
    return [file.name for file in (workshop.home / "staging").glob(f"*/*/{step}*")]


def test_infer_leaves_no_predictions_of_damaged_rows(workshop: Workshop) -> None:
    workshop.add_rows(30)
    workshop.add_model("churn", source={"batch_rows": 10})
    run_damaged(workshop, "infer", "collect-*.arrow")
    assert left_by(workshop, "infer") == []


def test_damaged_rows_of_one_partition_are_found(workshop: Workshop) -> None:
    workshop.add_rows(30)
    workshop.add_model("churn", source={"partitions": {"column": "id", "count": 3}})
    run_damaged(workshop, "infer", "collect.1-*.arrow")
    assert left_by(workshop, "infer.1") == []


@pytest.mark.parametrize("mode", MODES)
def test_damaged_predictions_leave_the_sink_as_it_was(workshop: Workshop, mode: Mode) -> None:
    workshop.add_rows(30)
    workshop.add_model("churn", source={"batch_rows": 10}, sink={"mode": mode})
    workshop.run(workshop.dispatch())
    before = workshop.predictions()
    run_damaged(workshop, "persist", "infer-*.arrow")
    assert workshop.predictions() == before


def test_damaged_predictions_of_one_partition_leave_the_sink_as_it_was(workshop: Workshop) -> None:
    workshop.add_rows(30)
    workshop.add_model("churn", source={"partitions": {"column": "id", "count": 3}})
    workshop.run(workshop.dispatch())
    before = workshop.predictions()
    run_damaged(workshop, "persist", "infer.2-*.arrow")
    assert workshop.predictions() == before


def test_damaged_predictions_leave_a_servers_table_as_it_was(
    on_server: tuple[Workshop, ServerDatabase],
) -> None:
    workshop, database = on_server
    query = "SELECT id, a, b, c FROM customers"
    real = "DOUBLE PRECISION"
    database.execute(f"CREATE TABLE customers (id INTEGER PRIMARY KEY, a {real}, b {real}, c {real})")
    values = ", ".join(f"({number}, 0.{number}, 0, 1)" for number in range(1, 31))
    database.execute(f"INSERT INTO customers VALUES {values}")
    workshop.add_model("churn", source={"query": query, "batch_rows": 10})
    workshop.run(workshop.dispatch())
    stored = "SELECT * FROM churn_predictions ORDER BY id"
    before = database.rows(stored)
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer")
    damage_staged(workshop, "infer-*.arrow")
    with pytest.raises(StagingError, match=_DAMAGED):
        workshop.run_steps(dispatch, "persist")
    assert database.rows(stored) == before
    assert len(before) == 30


def test_damaged_records_of_rejected_rows_stop_both_tables(workshop: Workshop) -> None:
    workshop.add_rows(30)
    rule = {"columns": {"a": {"type": "number", "max": 0}}}
    workshop.add_model("churn", input=rule, error_threshold="100%")
    run_damaged(workshop, "persist", "rejected-*.arrow")
    assert "churn_predictions" not in tables(workshop)
    assert all(workshop.in_sink(f"SELECT COUNT(*) FROM {table}") == [(0,)] for table in tables(workshop))


def test_a_shelf_of_the_version_before_checksums_is_read(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    folder = workshop.home / "staging" / "churn" / dispatch.id
    workshop.run_steps(dispatch, "collect", "log")
    _as_before_checksums(folder, "collect")
    _name_only_the_files(folder)
    workshop.run_steps(dispatch, "infer")
    _as_before_checksums(folder, "infer")
    workshop.run_steps(dispatch, "persist")
    assert [row["id"] for row in workshop.predictions()] == [1, 2, 3, 4, 5]


def _as_before_checksums(folder: Path, step: str) -> None:
    """A step's note and rows as they were then: without blocks, and in Arrow's format with an index."""
    note = json.loads((folder / f"{step}.json").read_text())
    file = folder / note["file"]
    rows = pa.ipc.open_stream(file.read_bytes()).read_all()
    with pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    kept = {name: value for name, value in note.items() if not name.endswith(("blocks", "crc32"))}
    assert len(kept) < len(note)
    (folder / f"{step}.json").write_text(json.dumps(kept))


def _name_only_the_files(folder: Path) -> None:
    """The note of `log` as it was then: it named the files, and pinned nothing else of them."""
    note = json.loads((folder / "log.json").read_text())
    kept = {name: value for name, value in note.items() if name not in ("parts", "crc32")}
    assert len(kept) == len(note) - 2
    (folder / "log.json").write_text(json.dumps(kept))
