"""The last prediction of a case: the newest row of its model under the very same key, or nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.databases.sink.write_request import Registration, WriteRequest
from mlops_plugin.databases.sink.writer import write_predictions
from mlops_plugin.errors import DatabaseError, MlopsError, SinkError
from mlops_plugin.serving.last_predictions import LastPredictions, find_last
from support.sinks import AT, Mode, predictions, registration, sink_config
from support.ways_in import WAYS_IN, WayIn, way_in
from support.workshop import Workshop

IN_SHORT = ("mysql", "postgres", "sqlite")
WAYS = [name if name in IN_SHORT else pytest.param(name, marks=pytest.mark.long) for name in WAYS_IN]
DAY = datetime(2026, 1, 1, tzinfo=UTC)
Find = Callable[..., dict[Any, Any]]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    return way_in(request.param, request, tmp_path)


@pytest.fixture
def find(way: WayIn, workshop: Workshop) -> Find:
    """The last predictions of `churn` in table `predictions`, by key."""
    workshop.connections["sink"] = way.airflow_connection

    def look(keys: Sequence[Any], *, key: Sequence[str] = ("id",), mode: Mode = "append") -> dict[Any, Any]:
        workshop.add_model("churn", key=list(key), sink={"table": "predictions", "mode": mode})
        several = [each if isinstance(each, tuple) else (each,) for each in keys]
        with workshop.entered():
            found = find_last(workshop.model(), workshop.deployment, several)
        return {
            each[0] if len(each) == 1 else each: (one.prediction, one.dispatch_id)
            for each, one in found.items()
        }

    return look


def _write(way: WayIn, rows: pa.Table, order: Registration | None, *, mode: Mode = "append") -> None:
    request = WriteRequest(
        sink_config(mode),
        ("id",),
        rows["dispatch_id"][0].as_py(),
        registration=order,
        is_narrow=way.is_narrow,
    )
    with way.open() as database:
        write_predictions(database, request, rows.to_reader())


@pytest.mark.parametrize("is_narrow", [True, False])
def test_the_newest_counts_whatever_was_written_last(way: WayIn, find: Find, is_narrow: bool) -> None:
    way = replace(way, is_narrow=is_narrow)
    for number, ids in ((1, [1, 2, 3]), (4, [1, 2]), (2, [1, 3])):
        values = [number / 2] * len(ids)
        rows = predictions(pa.array(ids, pa.int64()), values, dispatch=f"d{number}")
        _write(way, rows, registration(number))
    assert find([3, 1, 2, 9]) == {1: (2.0, "d4"), 2: (2.0, "d4"), 3: (1.0, "d2")}
    # A backfill of an old day reads later.
    for number, end in ((5, DAY + timedelta(days=9)), (6, DAY)):
        rows = predictions(pa.array([1], pa.int64()), [float(number)], dispatch=f"d{number}")
        _write(way, rows, registration(number, end))
    assert find([1]) == {1: (5.0, "d5")}


def test_of_dispatches_without_an_order_the_one_that_predicted_later_counts(way: WayIn, find: Find) -> None:
    for dispatch, minutes in (("d1", 5), ("d2", 0)):
        rows = predictions(pa.array([1], pa.int64()), [float(minutes)], dispatch=dispatch)
        at = pa.array([AT + timedelta(minutes=minutes)], pa.timestamp("us", "UTC"))
        _write(way, rows.set_column(rows.schema.get_field_index("predicted_at"), "predicted_at", at), None)
    assert find([1]) == {1: (5.0, "d1")}
    way.execute("DROP TABLE IF EXISTS mlops_dispatches")
    assert find([1]) == {1: (5.0, "d1")}


@pytest.mark.parametrize("mode", ["upsert", pytest.param("replace", marks=pytest.mark.long)])
def test_each_mode_shows_what_its_table_holds(way: WayIn, find: Find, mode: Mode) -> None:
    way = replace(way, is_narrow=True)
    for number in (1, 2):
        rows = predictions(pa.array([number, 7], pa.int64()), [number / 2] * 2, dispatch=f"d{number}")
        _write(way, rows, registration(number), mode=mode)
    older = {} if mode == "replace" else {1: (0.5, "d1")}
    assert find([1, 2, 7], mode=mode) == older | {2: (1.0, "d2"), 7: (1.0, "d2")}


def test_rows_of_another_model_in_the_same_table_are_not_shown(way: WayIn, find: Find) -> None:
    rows = predictions(pa.array([1, 2], pa.int64()))
    others = pa.array(["Churn", "loans"], pa.string())
    _write(way, rows.set_column(rows.schema.get_field_index("model"), "model", others), registration(1))
    assert find([1, 2]) == {}


def test_large_keys_are_told_apart(way: WayIn, find: Find) -> None:
    keys = [2**53, 2**53 + 1, 2**53 + 2]  # a double knows two of them
    _write(way, predictions(pa.array(keys[:2], pa.int64()), [0.0, 1.0]), registration(1))
    assert find(keys) == {keys[0]: (0.0, "d1"), keys[1]: (1.0, "d1")}
    if way.engine != "sqlite":  # its driver takes no decimal
        assert find([Decimal(keys[1])]) == {Decimal(keys[1]): (1.0, "d1")}


@pytest.mark.parametrize("way", ["odbc-mariadb", "odbc-postgres"], indirect=True)
def test_a_key_of_bytes_is_found_over_odbc(way: WayIn, find: Find) -> None:
    keys = [b"\0\xff", b"\\x2f", b"'?"]
    _write(way, predictions(pa.array(keys, pa.binary()), [0.0, 1.0, 2.0]), registration(1))
    assert find([*keys, b"\0"]) == {key: (float(place), "d1") for place, key in enumerate(keys)}


def test_a_key_of_64_bits_without_a_sign_is_found_where_it_can_be_stored(way: WayIn, find: Find) -> None:
    largest = 2**64 - 1
    if way.engine == "sqlite":  # no integer of its own is so large
        _write(way, predictions(pa.array([5], pa.int64()), [0.5]), registration(1))
        with pytest.raises(MlopsError):
            find([largest])
        return
    _write(way, predictions(pa.array([5, largest], pa.uint64()), [0.5, 1.0]), registration(1))
    assert find([5, largest, largest - 1]) == {5: (0.5, "d1"), largest: (1.0, "d1")}


def test_a_text_is_no_number_and_case_and_blanks_count(way: WayIn, find: Find) -> None:
    rows = predictions(pa.array(["1", "01", "a", "b "], pa.string()), [1.0, 2.0, 3.0, 4.0])
    _write(way, rows, registration(1))
    assert find(["a", "A", "b", "b ", "1 "]) == {"a": (3.0, "d1"), "b ": (4.0, "d1")}
    try:
        assert find([1]) == {}
    except DatabaseError:  # PostgreSQL compares no text with a number
        assert way.engine == "postgres"


def test_a_key_of_several_columns_is_compared_whole(way: WayIn, find: Find) -> None:
    rows = predictions(pa.array([1, 2], pa.int64()), [1.0, 2.0], area=pa.array(["n", "s"], pa.string()))
    _write(way, rows, registration(1))
    keys = [(1, "n"), (1, "s"), (2, "n"), (2, "s")]
    assert find(keys, key=("id", "area")) == {(1, "n"): (1.0, "d1"), (2, "s"): (2.0, "d1")}


def test_a_time_with_a_zone_is_found_and_one_without_is_no_instant(way: WayIn, find: Find) -> None:
    zoned = pa.array([DAY], pa.timestamp("us", "UTC"))
    _write(way, predictions(zoned), registration(1))
    if way.engine == "sqlite":  # it stores texts
        assert find([DAY.replace(tzinfo=None)]) == {}
        return
    berlin = DAY.astimezone(datetime.strptime("+01:00", "%z").tzinfo)
    assert find([berlin]) == {berlin: (0.5, "d1")}
    if way.engine == "postgres":
        assert find([DAY.replace(tzinfo=None)]) == {}


@pytest.mark.parametrize("is_narrow", [True, False])
def test_a_row_says_whether_it_has_probabilities_itself(
    way: WayIn, find: Find, workshop: Workshop, is_narrow: bool
) -> None:
    way = replace(way, is_narrow=is_narrow)
    shares = {"probability_a": [None, None, None], "probability_b": [0.5, None, None]}
    more = {name: pa.array(values, pa.float64()) for name, values in shares.items()}
    _write(way, predictions(pa.array([1, 2, 3], pa.int64()), **more), registration(1))
    assert find([1]) == {1: (0.5, "d1")}
    with workshop.entered():
        found = find_last(workshop.model(), workshop.deployment, [(1,), (2,)])
    assert {key: one.has_probabilities for key, one in found.items()} == {(1,): True, (2,): False}


def test_without_a_table_nothing_is_predicted(way: WayIn, find: Find) -> None:
    assert find([1]) == {}


def test_a_table_that_lacks_columns_is_said_once_and_then_left_alone(
    way: WayIn, find: Find, workshop: Workshop
) -> None:
    way.execute("CREATE TABLE predictions (id INTEGER, prediction INTEGER)")
    with pytest.raises(SinkError, match="dispatch_id, model, predicted_at"):
        find([1])
    last = LastPredictions()
    with workshop.entered():
        assert last.find(workshop.model(), workshop.deployment, [(1,)]) is None
        way.execute("DROP TABLE predictions")
        assert last.find(workshop.model(), workshop.deployment, [(1,)]) is None  # not asked for a minute
        assert LastPredictions().find(workshop.model(), workshop.deployment, [(1,)]) == {}
