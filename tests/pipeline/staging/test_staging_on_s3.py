"""Staging on an object store: dispatches through an S3-compatible server, and errors that help."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
import s3fs  # type: ignore[import-untyped]

from mlops_plugin.errors import DatabaseError, StagingError
from mlops_plugin.pipeline.runner import run_step
from mlops_plugin.pipeline.staging.shelf import Shelf, Staging
from support.s3_server import BUCKET, S3Server, start_s3
from support.workshop import Workshop

_SHELF = "churn/0b0e1c3e-6f67-4e0f-9a55-000000000001"
_ROWS = pa.table({"id": [1, 2, 3]})


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with start_s3() as server:
        yield server


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server as this process uses it, with connections of this test only."""
    server.enter(monkeypatch)
    s3fs.S3FileSystem.clear_instance_cache()
    return server


@pytest.fixture
def on_s3(s3: S3Server, workshop: Workshop) -> Workshop:
    """A deployment that stages in the bucket."""
    workshop.sections["staging"] = {"url": f"s3://{BUCKET}/{workshop.folder.name}"}
    workshop.add_rows(35)
    workshop.add_model("churn", source={"partitions": {"column": "id", "count": 4}})
    return workshop


def staged(s3: S3Server, workshop: Workshop) -> list[str]:
    return s3.objects(f"{workshop.folder.name}/")


def test_a_partitioned_dispatch_passes_through_the_bucket(s3: S3Server, on_s3: Workshop) -> None:
    dispatch = on_s3.dispatch()
    on_s3.run(dispatch)
    assert [row["id"] for row in on_s3.predictions()] == list(range(1, 41))
    record = on_s3.record(dispatch.id)
    assert (record.state, record.rows_persisted) == ("succeeded", 40)
    left = staged(s3, on_s3)
    assert left
    assert all(key.endswith(".json") for key in left)


def test_a_failed_dispatch_stays_for_the_retry_of_another_worker(
    s3: S3Server, on_s3: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SINK", "sqlite:////nowhere/at/all.db")
    dispatch = on_s3.dispatch()
    with pytest.raises(DatabaseError, match="connection 'sink'"):
        on_s3.run(dispatch)
    assert len([key for key in staged(s3, on_s3) if key.endswith(".arrow")]) == 8
    monkeypatch.setenv("AIRFLOW_CONN_SINK", on_s3.connections["sink"])
    s3fs.S3FileSystem.clear_instance_cache()  # what another process would know: nothing
    run_step("persist", dispatch, on_s3.deployment, query=lambda: dispatch.model.source.query)
    assert len(on_s3.predictions()) == 40
    assert not [key for key in staged(s3, on_s3) if key.endswith(".arrow")]


def test_a_source_that_fails_leaves_no_object(s3: S3Server) -> None:
    shelf = Shelf(f"s3://{BUCKET}/failing/{_SHELF}")

    def failing() -> Iterator[pa.RecordBatch]:
        yield from _ROWS.to_batches()
        raise LookupError("the source broke")

    with pytest.raises(LookupError, match="the source broke"):
        shelf.put("collect", _ROWS.schema, failing())
    assert s3.objects("failing/") == []


def test_an_object_that_came_back_changed_is_not_read(s3: S3Server) -> None:
    shelf = Shelf(f"s3://{BUCKET}/changed/{_SHELF}")
    file, _ = shelf.put("collect", _ROWS.schema, _ROWS.to_batches())
    with shelf.rows(file) as rows:
        assert rows.read_all() == _ROWS
    store, path = s3fs.S3FileSystem(skip_instance_cache=True), f"{BUCKET}/changed/{_SHELF}/{file.name}"
    written = store.cat_file(path)
    store.pipe_file(path, written.replace((2).to_bytes(8, "little"), (6).to_bytes(8, "little")))
    with pytest.raises(StagingError, match=file.name), shelf.rows(file) as rows:
        rows.read_all()


def test_what_is_old_is_swept(s3: S3Server) -> None:
    url = f"s3://{BUCKET}/swept"
    shelf = Staging(url, timedelta(0)).shelf("churn", _SHELF.partition("/")[2])
    shelf.put("collect", _ROWS.schema, _ROWS.to_batches())
    shelf.put_note("collect", {})
    assert Staging(url, timedelta(hours=1)).sweep(datetime.now(UTC), lambda _: ()) == 0
    assert len(s3.objects("swept/")) == 2
    assert Staging(url, timedelta(0)).sweep(datetime.now(UTC), lambda _: ()) == 1
    assert s3.objects("swept/") == []


def test_a_bucket_that_is_missing_is_said_and_not_made(s3: S3Server) -> None:
    shelf = Shelf(f"s3://misspelt/{_SHELF}")
    for put in (
        lambda: shelf.put_note("collect", {}),
        lambda: shelf.put("collect", _ROWS.schema, _ROWS.to_batches()),
    ):
        with pytest.raises(StagingError, match=r"misspelt.*staging\.url"):
            put()
    assert not s3fs.S3FileSystem(skip_instance_cache=True).exists("misspelt")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "signature|Forbidden"),
        ({"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, "Access Key Id|Forbidden"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "Unable to locate credentials"),
    ],
    ids=["secret", "id", "none"],
)
def test_wrong_credentials_are_said_in_the_stores_words(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], says: str
) -> None:
    for name, value in changes.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    shelf = Shelf(f"s3://{BUCKET}/refused/{_SHELF}")
    tries: dict[str, Callable[[], object]] = {
        "writing": lambda: shelf.put("collect", _ROWS.schema, _ROWS.to_batches()),
        "reading": lambda: shelf.note("collect"),
        "sweeping": lambda: Staging(f"s3://{BUCKET}/refused", timedelta(0)).sweep(
            datetime.now(UTC), lambda _: ()
        ),
    }
    for doing, attempt in tries.items():
        with pytest.raises(StagingError, match=f"staging: {doing} .*({says})") as error:
            attempt()
        secret = s3.environment["AWS_SECRET_ACCESS_KEY"]
        assert secret not in str(error.value)


_WITHOUT_S3FS = """
import sys
sys.modules["s3fs"] = None  # as where it is not installed
from mlops_plugin.pipeline.staging.shelf import Shelf
Shelf("s3://bucket/x").put_note("collect", {})
"""


def test_a_library_that_is_missing_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_S3FS],
        env={**os.environ, "PYTHONPATH": "plugins"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "StagingError: staging: opening s3://bucket/x failed: Install s3fs" in done.stderr
