"""What the three modes leave in the table, through every way in."""

from __future__ import annotations

import math
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.errors import KeyColumnError, MlopsError, SinkError, UnsupportedType
from support.sinks import AT, Mode, predictions, provenance
from support.ways_in import WAYS_IN, WayIn, way_in


def test_a_first_dispatch_creates_the_table_and_fills_it(way: WayIn, mode: Mode) -> None:
    assert way.write(predictions(range(10)), mode) == 10

    assert way.stored() == [(number, 0.5, "d1") for number in range(10)]
    assert way.stored("DISTINCT model, artifact_sha256") == [("churn", "ab" * 32)]


def test_writing_the_same_dispatch_twice_writes_it_once(way: WayIn, mode: Mode) -> None:
    for _ in range(2):
        assert way.write(predictions(range(10)), mode) == 10

    assert way.stored() == [(number, 0.5, "d1") for number in range(10)]


def test_append_keeps_every_dispatch(way: WayIn) -> None:
    way.write(predictions([1, 2], dispatch="d1"), "append", dispatch="d1")
    way.write(predictions([2, 3], [0.7, 0.8], dispatch="d2"), "append", dispatch="d2")

    assert way.stored() == [(1, 0.5, "d1"), (2, 0.5, "d1"), (2, 0.7, "d2"), (3, 0.8, "d2")]


def test_append_again_with_other_rows_replaces_those_of_the_dispatch_only(way: WayIn) -> None:
    way.write(predictions([1], dispatch="d0"), "append", dispatch="d0")
    way.write(predictions([1, 2, 3]), "append")
    way.write(predictions([3, 4]), "append")

    assert way.stored() == [(1, 0.5, "d0"), (3, 0.5, "d1"), (4, 0.5, "d1")]


def test_upsert_updates_known_keys_and_adds_new_ones(way: WayIn) -> None:
    way.write(predictions([1, 2], dispatch="d1"), "upsert", dispatch="d1")
    assert way.write(predictions([2, 3], [0.7, 0.8], dispatch="d2"), "upsert", dispatch="d2") == 2

    assert way.stored() == [(1, 0.5, "d1"), (2, 0.7, "d2"), (3, 0.8, "d2")]


def test_upsert_leaves_no_answer_of_another_artifact_in_a_row(way: WayIn) -> None:
    of_three = {"probability_a": pa.array([0.2, 0.3]), "probability_C": pa.array([0.5, 0.5])}
    way.write(predictions([1, 2], dispatch="d1", **of_three), "upsert", dispatch="d1")
    of_two = predictions([2, 3], dispatch="d2", probability_a=pa.array([0.4, 0.6]))
    assert way.write(of_two, "upsert", dispatch="d2") == 2

    found = way.stored(f"id, probability_a, {way.quoted('probability_C')}")
    assert found == [(1, 0.2, 0.5), (2, 0.4, None), (3, 0.6, None)]


def test_upsert_of_fewer_outputs_leaves_none_of_the_others(way: WayIn) -> None:
    both = {"prediction_0": pa.array([0.1]), "prediction_1": pa.array([0.2]), "note": pa.array(["kept"])}
    way.write(predictions([1], dispatch="d1", **both), "upsert", dispatch="d1")
    way.write(predictions([1], dispatch="d2", prediction_0=pa.array([0.3])), "upsert", dispatch="d2")

    assert way.stored("prediction, prediction_0, prediction_1, note") == [(0.5, 0.3, None, "kept")]


def test_upsert_leaves_no_score_of_another_artifact_in_a_created_table(way: WayIn) -> None:
    way.write(predictions([1, 2], dispatch="d1", score=pa.array([0.1, 0.2])), "upsert", dispatch="d1")
    way.write(predictions([2], dispatch="d2"), "upsert", dispatch="d2")

    assert way.stored("id, score") == [(1, 0.1), (2, None)]


def test_upsert_keeps_columns_of_the_user_that_are_named_like_answers(way: WayIn) -> None:
    way.write(predictions([1], dispatch="d1", probability_a=pa.array([0.2])), "upsert", dispatch="d1")
    way.execute(f"ALTER TABLE {way.rows_table} ADD probability_limit FLOAT DEFAULT 0.5 NOT NULL")
    way.execute(f"ALTER TABLE {way.rows_table} ADD probability_note VARCHAR(20) DEFAULT 'kept'")
    way.write(predictions([1], dispatch="d2"), "upsert", dispatch="d2")

    found = way.stored("probability_a, probability_limit, probability_note", way.rows_table)
    assert found == [(None, 0.5, "kept")]


def test_replace_leaves_the_latest_dispatch_only(way: WayIn) -> None:
    way.write(predictions([1, 2, 3], dispatch="d1"), "replace", dispatch="d1")
    assert way.write(predictions([3, 4], dispatch="d2"), "replace", dispatch="d2") == 2

    assert way.stored() == [(3, 0.5, "d2"), (4, 0.5, "d2")]


def test_an_empty_dispatch_writes_nothing_and_empties_a_replaced_table(way: WayIn, mode: Mode) -> None:
    way.write(predictions([1, 2], dispatch="d1"), mode, dispatch="d1")
    empty = predictions(pa.array([], pa.int64()), dispatch="d2")
    assert way.write(empty, mode, dispatch="d2") == 0

    assert way.stored("id") == ([] if mode == "replace" else [(1,), (2,)])


def test_a_key_twice_in_a_dispatch_is_refused_with_a_sample(way: WayIn, mode: Mode) -> None:
    way.write(predictions([7], dispatch="d0"), mode, dispatch="d0")
    with pytest.raises(KeyColumnError, match=r"7|UNIQUE constraint"):
        way.write(predictions([1, 7, 2, 3, 4, 7], [0.1] * 6), mode)

    assert way.stored() == [(7, 0.5, "d0")]


def test_a_null_key_is_refused_with_its_row(way: WayIn, mode: Mode) -> None:
    way.write(predictions([7], dispatch="d0"), mode, dispatch="d0")
    with pytest.raises(KeyColumnError, match=r"'id'.*NULL.*row 6"):
        way.write(predictions([1, 2, 3, 4, 5, None, 6]), mode)

    assert way.stored() == [(7, 0.5, "d0")]


def test_a_key_may_have_several_columns(way: WayIn, mode: Mode) -> None:
    regions = pa.array(["north", "south", "north", "North"])
    table = predictions([1, 1, 2, 1], [0.1, 0.2, 0.3, 0.4], region=regions)
    for _ in range(2):
        assert way.write(table, mode, key=("region", "id")) == 4

    assert way.stored("region, id, prediction") == [
        ("North", 1, 0.4),
        ("north", 1, 0.1),
        ("north", 2, 0.3),
        ("south", 1, 0.2),
    ]


def test_names_that_need_quotes_are_quoted(way: WayIn, mode: Mode) -> None:
    names = {"order": [1, 2], "a b.c, (d)": [0.1, 0.2], "grüße": [True, None], "100 %s ?": [1, 2]}
    table = pa.table({**names, **provenance(2, "d1")})
    written = '"my.table ""quoted"" `x` grüße %s ?"'
    for _ in range(2):
        assert way.write(table, mode, key=("order",), table=written) == 2

    assert way.rows(f"SELECT dispatch_id FROM {way.quote_table(written)}") == [("d1",), ("d1",)]


def test_quotes_within_a_column_name_are_part_of_it(way: WayIn, mode: Mode) -> None:
    name = 'say "select" `x`'
    for _ in range(2):
        assert way.write(predictions([1, 2], **{name: pa.array([0.1, 0.2])}), mode) == 2
    with way.open() as database:
        quoted = database.engine.quote(name)
    assert way.stored(f"id, {quoted}") == [(1, 0.1), (2, 0.2)]


def test_a_table_may_stand_in_another_schema(way: WayIn, mode: Mode) -> None:
    if way.engine == "sqlite":
        schema = "main"
    else:
        schema = f"other_{way.spec.schema}"
        way.execute(f"CREATE SCHEMA {schema}")
    for dispatch in ("d1", "d1", "d2"):
        written = way.write(
            predictions([1, 2], dispatch=dispatch), mode, dispatch=dispatch, table=f"{schema}.t"
        )
        assert written == 2

    dispatches = ["d1", "d1", "d2", "d2"] if mode == "append" else ["d2", "d2"]
    assert way.stored("dispatch_id", table=f"{schema}.t") == [(dispatch,) for dispatch in dispatches]


FLOATS = [
    0.1,
    1 / 3,
    math.pi,
    5e-324,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    -1.7976931348623157e308,
    0.30000000000000004,
    1e22,
    123456789.12345679,
]


def test_predictions_are_stored_bit_for_bit(way: WayIn, mode: Mode) -> None:
    way.write(predictions(range(len(FLOATS)), FLOATS), mode)

    stored = [value for _, value in sorted(way.rows("SELECT id, prediction FROM predictions"))]
    assert [struct.pack("d", value) for value in stored] == [struct.pack("d", value) for value in FLOATS]


def test_a_negative_zero_is_a_zero(way: WayIn) -> None:
    """MySQL and SQLite drop its sign."""
    way.write(predictions([1], [-0.0]), "append")

    assert way.rows("SELECT prediction FROM predictions") == [(0.0,)]


def test_values_of_every_type_arrive(way: WayIn) -> None:
    big = 2**63 - 1
    columns = {
        "label": pa.array(["🚀 é 预测", "", None]),
        "score": pa.array([None, 0.25, -1.5], pa.float64()),
        "small": pa.array([0.1, None, 3.5], pa.float32()),
        "rank": pa.array([-big - 1, big, None], pa.int64()),
        "huge": pa.array([2**64 - 1, 0, None], pa.uint64()),
        "byte": pa.array([255, 0, None], pa.uint8()),
        "flag": pa.array([True, False, None]),
        "price": pa.array(
            [Decimal("12345678901234.567890"), None, Decimal("-0.000001")], pa.decimal128(20, 6)
        ),
        "day": pa.array([date(1969, 12, 31), None, date(2999, 1, 1)]),
        "seen": pa.array([datetime(2026, 2, 28, 23, 59, 59, 999999), None, None], pa.timestamp("us")),
        "group": pa.array(["a", "b", None]).dictionary_encode(),
    }
    way.write(predictions([1, 2, 3], **columns), "upsert")

    with way.open() as database:
        quoted = ", ".join(database.engine.quote(name) for name in columns)
    rows = [list(row) for row in way.rows(f"SELECT {quoted} FROM predictions ORDER BY id")]
    expected = [list(row.values()) for row in pa.table(columns).to_pylist()]
    for row in rows + expected:
        for position, value in enumerate(row):
            row[position] = _comparable(value)
    assert rows == expected


def _comparable(value: Any) -> Any:
    """SQLite holds decimals and times as text, and an engine without booleans holds 0 and 1."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Decimal):
        return str(value) if value.as_tuple().exponent else int(value)
    if isinstance(value, str) and value.isdigit():
        return int(value)
    if isinstance(value, (date, datetime)):
        return str(value)
    if isinstance(value, float):
        return struct.unpack("f", struct.pack("f", value))[0]
    return value


def test_the_time_is_utc(way: WayIn) -> None:
    way.write(predictions([1]), "append")

    ((stored,),) = way.rows("SELECT predicted_at FROM predictions")
    at = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    assert (at.replace(tzinfo=UTC) if at.tzinfo is None else at) == AT


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_the_engine_cannot_hold_is_refused_and_never_becomes_null(
    way: WayIn, mode: Mode, value: float
) -> None:
    holds = way.engine in ("postgres", "duckdb") or (way.engine == "sqlite" and math.isinf(value))
    table = predictions([1, 2, 3, 4, 5], [0.1, 0.2, 0.3, None, value])
    if holds:
        assert way.write(table, mode) == 5
        ((stored,),) = way.rows("SELECT prediction FROM predictions WHERE id = 5")
        assert stored == value or (math.isnan(stored) and math.isnan(value))
        return
    with pytest.raises(SinkError, match=r"'prediction' holds (NaN|an infinity) in row 5"):
        way.write(table, mode)
    assert way.stored("id") == []


@pytest.mark.parametrize(
    "name", [name for name in WAYS_IN if name != "sqlite"]
)  # whose columns have no length
def test_text_that_does_not_fit_its_column_is_refused_and_never_cut(
    name: str, mode: Mode, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    way.write(predictions([1]), mode)
    way.execute(f"ALTER TABLE {way.rows_table} ADD COLUMN label VARCHAR(3)")
    if way.is_narrow:
        with pytest.raises(SinkError, match="'label'") as refused:
            way.write(predictions([2], dispatch="d2", label=pa.array(["four"])), mode, dispatch="d2")
        for statement in str(refused.value).splitlines()[1:]:
            way.execute(statement)
    if way.engine == "mysql":
        way.execute("SET GLOBAL sql_mode = ''")
    try:
        with pytest.raises(MlopsError, match=r"label|too long"):
            way.write(predictions([2], dispatch="d2", label=pa.array(["four"])), mode, dispatch="d2")
    finally:
        if way.engine == "mysql":
            way.execute("SET GLOBAL sql_mode = DEFAULT")

    assert way.stored("id") == [(1,)]


def test_a_column_without_a_type_is_refused_by_name(way: WayIn) -> None:
    with pytest.raises(UnsupportedType, match="'embedding'"):
        way.write(predictions([1], embedding=pa.array([[0.1, 0.2]])), "upsert")


def test_a_missing_key_column_is_refused_by_name(way: WayIn) -> None:
    with pytest.raises(KeyColumnError, match="'customer'"):
        way.write(predictions([1]), "upsert", key=("customer",))
