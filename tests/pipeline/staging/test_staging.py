"""Staging: complete rows or a clear error, whatever was killed, filled up or deleted before."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_plugin.config.schema import StagingConfig
from mlops_plugin.errors import FeatureError, StagingError, StepEnded
from mlops_plugin.pipeline.staging.relay import Relay
from mlops_plugin.pipeline.staging.shelf import Shelf, Staged, Staging

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])


def batches(count: int, rows: int = 3) -> Iterator[pa.RecordBatch]:
    for n in range(count):
        ids = list(range(n * rows, (n + 1) * rows))
        yield pa.RecordBatch.from_pydict({"id": ids, "text": [f"züge 🚂 {i}" for i in ids]}, schema=SCHEMA)


@pytest.fixture
def no_more_space() -> Iterator[None]:
    """The kernel refuses to let any file grow past 100 kB: what a full disk does, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_rows_come_back_as_they_were_put(shelf: Shelf) -> None:
    file, count = shelf.put("collect", SCHEMA, batches(4))
    with shelf.rows(file) as rows:
        assert rows.schema == SCHEMA
        assert rows.read_all() == pa.Table.from_batches(batches(4))
    assert count == 12


def test_no_rows_come_back_with_their_schema(shelf: Shelf) -> None:
    file, count = shelf.put("collect", SCHEMA, iter(()))
    with shelf.rows(file) as rows:
        assert rows.schema == SCHEMA
        assert rows.read_all().num_rows == count == 0


def test_note_of_a_later_try_replaces_the_earlier_one(shelf: Shelf) -> None:
    shelf.put_note("collect", {"rows": 1})
    shelf.put_note("collect", {"rows": 2, "text": "ü"})
    assert shelf.note("collect") == {"rows": 2, "text": "ü"}


def test_tries_of_one_step_never_share_a_file(shelf: Shelf) -> None:
    first, _ = shelf.put("collect", SCHEMA, batches(1))
    second, _ = shelf.put("collect", SCHEMA, batches(2))
    with shelf.rows(first) as rows:
        assert rows.read_all().num_rows == 3
    with shelf.rows(second) as rows:
        assert rows.read_all().num_rows == 6


def test_missing_note_says_what_to_clear(shelf: Shelf) -> None:
    with pytest.raises(StagingError, match="clear 'collect'"):
        shelf.note("infer")


def test_rows_that_were_removed_say_what_to_clear(shelf: Shelf) -> None:
    file, _ = shelf.put("collect", SCHEMA, batches(1))
    shelf.remove_rows()
    with pytest.raises(StagingError, match="clear 'collect'"), shelf.rows(file):
        pass


def test_who_follows_a_file_that_was_given_up_ends_as_its_writer_failed(tmp_path: Path) -> None:
    relay, begun = Relay(), list[Staged]()
    shelf = Shelf(str(tmp_path / "shelf"), relay=relay)

    def failing() -> Iterator[pa.RecordBatch]:
        yield from batches(1)
        raise FeatureError("no such feature")

    with pytest.raises(FeatureError):
        shelf.put("infer", SCHEMA, failing(), begun.append)
    threading.Timer(0.2, relay.fail, ("infer", FeatureError("no such feature"))).start()
    with pytest.raises(StepEnded, match="'infer'"), shelf.rows(begun[0]):
        pass


def test_error_of_the_source_passes_unchanged_and_leaves_no_file(tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path / "shelf"))

    def failing() -> Iterator[pa.RecordBatch]:
        yield from batches(1)
        raise LookupError("the source broke")

    with pytest.raises(LookupError, match="the source broke"):
        shelf.put("collect", SCHEMA, failing())
    assert list((tmp_path / "shelf").iterdir()) == []


def test_truncated_file_is_a_clear_error(tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path))
    file, _ = shelf.put("collect", SCHEMA, batches(2))
    os.truncate(tmp_path / file.name, 100)
    with pytest.raises(StagingError, match=r"\b100 bytes"), shelf.rows(file) as rows:
        rows.read_all()


@pytest.mark.usefixtures("no_more_space")
def test_full_disk_is_a_clear_error_and_leaves_no_file(tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path / "shelf"))
    with pytest.raises(StagingError, match="File too large"):
        shelf.put("collect", SCHEMA, batches(2000, rows=500))
    assert list((tmp_path / "shelf").iterdir()) == []


def test_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StagingError, match=r"staging\.url"):
        Shelf(str(tmp_path / "file" / "shelf")).put("collect", SCHEMA, batches(1))


def test_unknown_storage_is_a_clear_error() -> None:
    with pytest.raises(StagingError, match="nowhere"):
        Shelf("nowhere://x").put_note("collect", {})


def test_rows_are_removed_and_notes_stay(shelf: Shelf) -> None:
    file, _ = shelf.put("collect", SCHEMA, batches(1))
    shelf.put_note("collect", {"file": file.name})
    shelf.remove_rows()
    shelf.remove_rows()
    assert shelf.note("collect") == {"file": file.name}
    with pytest.raises(StagingError), shelf.rows(file) as rows:
        rows.read_all()


OLD, YOUNG = "0b0e1c3e-6f67-4e0f-9a55-000000000001", "0b0e1c3e-6f67-4e0f-9a55-000000000002"


def age(folder: Path, hours: int) -> None:
    then = time.time() - hours * 3600
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (then, then))


def sweep(staging: Staging, *in_use: str) -> int:
    return staging.sweep(datetime.now(UTC), lambda asked: {*in_use} & {*asked})


def test_sweep_removes_what_is_old_of_any_model_and_keeps_the_rest(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path), timedelta(hours=1))
    for model, dispatch in (("churn", OLD), ("churn", YOUNG), ("removed", OLD)):
        staging.shelf(model, dispatch).put("collect", SCHEMA, batches(1))
    age(tmp_path / "churn" / OLD, 2)
    age(tmp_path / "removed" / OLD, 2)
    assert sweep(staging) == 2
    assert [path.name for path in tmp_path.glob("*/*")] == [YOUNG]


def test_sweep_keeps_the_shelf_of_a_dispatch_that_is_in_use_whatever_its_files_say(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path), timedelta(hours=1))
    staging.shelf("churn", OLD).put("collect", SCHEMA, batches(1))
    age(tmp_path / "churn" / OLD, 2)
    assert sweep(staging, OLD) == 0
    assert sweep(staging) == 1


def test_sweep_leaves_what_is_no_dispatch(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path / "mlops" / "staging"), timedelta(hours=1))
    others = [tmp_path / "mlops" / "events.db", tmp_path / "mlops" / "staging" / "churn" / "notes.txt"]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    age(tmp_path, 2)
    assert sweep(staging) == 0
    assert all(path.exists() for path in others)


def test_sweep_knows_the_age_on_a_storage_without_folders(tmp_path: Path) -> None:
    url = f"memory://sweep-{tmp_path.name}"
    Staging(url, timedelta(0)).shelf("churn", OLD).put_note("collect", {})
    assert sweep(Staging(url, timedelta(hours=1))) == 0
    assert sweep(Staging(url, timedelta(0))) == 1


def test_sweep_before_anything_was_staged_is_harmless(tmp_path: Path) -> None:
    assert sweep(Staging(str(tmp_path / "none"), timedelta(hours=1))) == 0


def test_relative_folder_is_below_airflow_home(tmp_path: Path) -> None:
    staging = Staging.of(StagingConfig(url="mlops/staging"), tmp_path)
    assert staging.url == str(tmp_path / "mlops" / "staging")
    assert Staging.of(StagingConfig(url="s3://bucket/x"), tmp_path).url == "s3://bucket/x"
