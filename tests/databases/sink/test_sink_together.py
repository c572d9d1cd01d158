"""Several writers and readers at once, and a writer that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError
from support.sinks import Mode, predictions
from support.ways_in import WayIn, way_in

ROOT = Path(__file__).parents[3]


def test_readers_see_the_old_dispatch_or_the_new_one_and_nothing_between(way: WayIn) -> None:
    rows = 1000
    way.write(predictions(range(rows), dispatch="d0"), "replace", dispatch="d0")
    states: list[list[tuple[Any, ...]]] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            states.append(way.rows("SELECT dispatch_id, COUNT(*) FROM predictions GROUP BY dispatch_id"))

    with ThreadPoolExecutor() as pool:
        reader = pool.submit(look)
        try:
            for number in range(1, 100):
                if number > 5 and len(states) >= 3:
                    break
                way.write(predictions(range(rows), dispatch=f"d{number}"), "replace", dispatch=f"d{number}")
        finally:
            is_over.set()
        reader.result()

    assert len(states) >= 3  # they took their turn beside the writer
    assert [state for state in states if len(state) != 1 or state[0][1] != rows] == []


def _in_the_end(write: Callable[[], int]) -> int:
    """Write, again and again while others are in the way, as retries do."""
    until = time.monotonic() + 60
    while True:
        try:
            return write()
        except DatabaseError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def test_two_dispatches_at_once_leave_whole_dispatches_only(way: WayIn, mode: Mode) -> None:
    """One that cannot get its turn fails with an error that a retry cures."""
    rows = 400

    def write(number: int) -> None:
        first = number * 10  # keys overlap in part
        table = predictions(range(first, first + rows), [float(number)] * rows, dispatch=f"d{number}")
        assert _in_the_end(lambda: way.write(table, mode, dispatch=f"d{number}")) == rows

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(8)))

    stored = dict(way.rows("SELECT dispatch_id, COUNT(*) FROM predictions GROUP BY dispatch_id"))
    if mode == "append":
        assert stored == {f"d{number}": rows for number in range(8)}
    elif mode == "replace":
        assert list(stored.values()) == [rows]
    else:
        assert way.stored("id") == [(number,) for number in range(rows + 70)]
        of_each = way.stored("DISTINCT dispatch_id, prediction")
        assert [row for row in of_each if row[0] != f"d{row[1]:.0f}"] == []


def test_the_same_dispatch_twice_at_once_is_there_once(way: WayIn, mode: Mode) -> None:
    """A task that is believed dead and its retry, on a table of the user's without a unique key."""
    time_type = {"mysql": "DATETIME(6)", "sqlite": "TEXT"}.get(way.engine, "TIMESTAMPTZ")
    way.execute(
        "CREATE TABLE predictions (id INTEGER, prediction DOUBLE PRECISION, dispatch_id VARCHAR(36), "
        f"model VARCHAR(99), artifact_sha256 CHAR(64), predicted_at {time_type})"
    )

    def write(_: int) -> None:
        _in_the_end(lambda: way.write(predictions(range(200)), mode))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    assert way.stored("id") == [(number,) for number in range(200)]


WRITER = """
import json, sys, time
import pyarrow as pa
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.databases.opening import open_database
from mlops_plugin.databases.sink.write_request import WriteRequest
from mlops_plugin.databases.sink.writer import write_predictions
from support.sinks import predictions, registration, sink_config

spec, mode = ConnectionSpec(**json.loads(sys.argv[1])), sys.argv[2]
order = registration(1) if sys.argv[3] == "narrow" else None
table = predictions(range(1000), [0.7] * 1000, dispatch="d1")

def batches():
    for number, batch in enumerate(table.to_batches(max_chunksize=100)):
        if number == 5:
            print("half-way", flush=True)
            time.sleep(600)
        yield batch

database = open_database(spec)
reader = pa.RecordBatchReader.from_batches(table.schema, batches())
write_predictions(database, WriteRequest(sink_config(mode), ("id",), "d1", registration=order), reader)
"""


def test_a_writer_killed_half_way_leaves_nothing_and_its_retry_writes_everything(
    way: WayIn, mode: Mode
) -> None:
    before = predictions(range(900, 1100), dispatch="d0")
    way.write(before, mode, dispatch="d0")

    form = "narrow" if way.is_narrow else "wide"
    way.let_go()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, json.dumps(asdict(way.spec)), mode, form],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": "plugins:tests", "PATH": "/usr/bin:/bin"},
    )
    assert writer.stdout is not None
    with writer, writer.stdout:
        assert writer.stdout.readline() == "half-way\n"
        writer.send_signal(signal.SIGKILL)

    assert way.stored() == [(number, 0.5, "d0") for number in range(900, 1100)]
    table = predictions(range(1000), [0.7] * 1000, dispatch="d1")
    assert way.write(table, mode, dispatch="d1") == 1000
    old = [(number, 0.5, "d0") for number in range(900, 1100)]
    new = [(number, 0.7, "d1") for number in range(1000)]
    kept = {"append": old, "upsert": old[100:], "replace": []}[mode]
    assert way.stored() == sorted(new + kept)


def test_a_source_that_breaks_half_way_leaves_the_table_as_it_was(way: WayIn, mode: Mode) -> None:
    before = predictions(range(3), dispatch="d0")
    way.write(before, mode, dispatch="d0")
    table = predictions(range(100))

    def batches() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches(max_chunksize=20)
        raise OSError("the staging file ends early")

    with pytest.raises(Exception, match="the staging file ends early"):
        way.write(pa.RecordBatchReader.from_batches(table.schema, batches()), mode)

    assert way.stored() == [(number, 0.5, "d0") for number in range(3)]


@pytest.mark.parametrize("name", ["postgres", "odbc-postgres"])
def test_a_table_that_is_being_created_is_not_there_rather_than_without_columns(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    with way.open() as database:
        database.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert database.columns(TableName("predictions")) is None  # from here on, the transaction's snapshot
        way.execute("CREATE TABLE predictions (id BIGINT)", "CREATE TABLE empty ()")
        assert database.columns(TableName("predictions")) is None
        database.rollback()
        assert database.columns(TableName("predictions")) == ("id",)
        assert database.columns(TableName("empty")) == ()


def test_dispatches_that_create_the_table_at_once_share_it(way: WayIn, mode: Mode) -> None:
    start = threading.Barrier(4)

    def write(number: int) -> int:
        start.wait()
        table = predictions([number], dispatch=f"d{number}")
        return _in_the_end(lambda: way.write(table, mode, dispatch=f"d{number}"))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write, range(4))) == [1, 1, 1, 1]

    assert len(way.stored("id")) == (1 if mode == "replace" else 4)
