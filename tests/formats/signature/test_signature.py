"""A signature as it is read: pins, files that are none, and the table that it describes."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from mlops_plugin.arrow_values import as_clock_times
from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.errors import ArtifactChanged, FeatureError, SignatureError
from mlops_plugin.formats.model_input import InputSpec
from mlops_plugin.formats.signature.cells import decode_cell
from mlops_plugin.formats.signature.golden_rows import as_read, golden_batch
from mlops_plugin.formats.signature.signature import (
    parse_signature,
    read_bounded,
    read_signature,
    require_made_for,
)
from mlops_plugin.formats.signature.signature_writer import dump_signature, make_signature, write_signature
from mlops_plugin.formats.signature.signed_input import check_query, input_spec
from mlops_plugin.formats.signature.versions import changed_libraries

ROWS = pd.DataFrame(
    {
        "city": pd.Series(["Rome", None, "Oslo"], dtype=object),
        "spend": [1.5, np.nan, 2**60],
        "visits": [1, 300, -(2**63)],
        "size": pd.Categorical(["S", "L", "S"], categories=["S", "M", "L"], ordered=True),
        "since": pd.to_datetime(["2026-01-01 00:00:00.123456", None, "2026-03-29 02:30:00.0"]).astype(
            "datetime64[ns]"
        ),
        "member": [True, False, True],
    }
)


class Constant:
    def predict(self, rows: Any) -> Any:
        return np.ones(len(rows))


def content(rows: Any = ROWS, **options: Any) -> dict[str, Any]:
    return make_signature(Constant(), rows, **options)


def signature_of(rows: Any = ROWS, **options: Any) -> Any:
    return parse_signature("m.signature.json", dump_signature(content(rows, **options)))


def artifact(folder: Path, **settings: Any) -> ArtifactConfig:
    return ArtifactConfig(format="skops", uri=str(folder / "m.skops"), **settings)


def test_a_model_without_a_signature_has_none(tmp_path: Path) -> None:
    assert read_signature(artifact(tmp_path)) is None


def test_the_pinned_signature_is_read_and_another_is_refused(tmp_path: Path) -> None:
    sha256 = write_signature(Constant(), ROWS, tmp_path / "m.skops")
    found = read_signature(artifact(tmp_path, signature_sha256=sha256))
    assert found is not None
    assert found.sha256 == sha256
    with pytest.raises(ArtifactChanged, match=sha256):
        read_signature(artifact(tmp_path, signature_sha256="0" * 64))


def test_a_pinned_signature_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match=re.escape(str(tmp_path))):
        read_signature(artifact(tmp_path, signature_sha256="0" * 64))


def test_a_signature_of_another_artifact_is_refused() -> None:
    found = parse_signature("s", dump_signature(content() | {"artifact_sha256": "a" * 64}))
    require_made_for(found, "a" * 64)
    with pytest.raises(SignatureError, match=r"a{12}.*b{12}|b{12}.*a{12}"):
        require_made_for(found, "b" * 64)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "something"}, "format"),
        ({"version": 2}, "version"),
        ({"outputs": []}, "outputs"),
        ({"golden": {"origin": "training", "rows": [[1]], "answers": {}, "alone": True}}, "golden row"),
        ({"input": {"container": "pickle", "columns": []}}, "container"),
        ({"outputs": [content()["outputs"][0] | {"tolerance": 10**400}]}, "too large"),
        ({"libraries": {"\ud800": "1"}}, "surrogates"),
    ],
)
def test_a_file_that_is_no_signature_is_refused_with_the_place(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SignatureError, match=says):
        parse_signature("s", json.dumps(content() | change).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff"])
def test_bytes_that_are_no_json_object_are_refused(data: bytes) -> None:
    with pytest.raises(SignatureError):
        parse_signature("s", data)


@pytest.mark.parametrize(
    "value",
    [
        *({"pickle": "x"}, [1], {"uuid": 5}, {"bytes": 5}, {"duration": 1e400}, {"decimal": "x"}),
        {"decimal": "1e999999999"},  # a number that takes hours to compare
    ],
)
def test_a_cell_of_an_unknown_type_is_refused(value: Any) -> None:
    changed = content()
    changed["golden"]["rows"][0][0] = value
    with pytest.raises(SignatureError):
        parse_signature("s", json.dumps(changed).encode())


@pytest.mark.parametrize("value", [{"timestamp": "2020-01-01T00:00:00"}, {"duration": 1}, "x", 10**400])
def test_a_golden_value_of_another_kind_than_its_column_is_refused(value: Any) -> None:
    changed = content()
    changed["golden"]["rows"][0][1] = value  # of numbers
    with pytest.raises(SignatureError, match=changed["input"]["columns"][1]["name"]):
        golden_batch(parse_signature("s", json.dumps(changed).encode()))


def test_no_number_among_golden_integers_is_refused() -> None:
    changed = content(pd.DataFrame({"a": [1, 2]}))
    changed["golden"]["rows"][0][0] = {"decimal": "NaN"}
    with pytest.raises(SignatureError, match="'a'"):
        golden_batch(parse_signature("s", json.dumps(changed).encode()))


@pytest.mark.parametrize("zone", ["America", "A" * 5000, "../../etc/passwd", "\0"])
def test_a_time_whose_zone_this_machine_does_not_know_keeps_its_offset(zone: str) -> None:
    found = decode_cell({"timestamp": "2026-10-25T01:30:00-03:00", "zone": zone})
    assert found.moment.isoformat() == "2026-10-25T01:30:00-03:00"


def test_golden_rows_become_what_a_database_gives() -> None:
    batch = golden_batch(signature_of())
    assert [str(kind) for kind in batch.schema.types] == [
        "string",
        "double",
        "int64",
        "string",
        "timestamp[us]",
        "bool",
    ]
    rows = sorted(batch.to_pylist(), key=lambda row: row["visits"])
    assert [row["city"] for row in rows] == ["Oslo", "Rome", None]
    assert [row["spend"] for row in rows] == [2.0**60, 1.5, None]
    assert [str(row["since"]) for row in rows] == [
        "2026-03-29 02:30:00",
        "2026-01-01 00:00:00.123456",
        "None",
    ]


@pytest.mark.parametrize(
    "table",
    [
        pl.DataFrame({"n": [1, 2], "x": [0.5, None]}, schema={"n": pl.Int64, "x": pl.Float32}),
        pl.DataFrame({"n": [1, 2], "x": [0.5, None]}, schema={"n": pl.UInt8, "x": pl.Float64}),
        pa.table({"n": pa.array([1, 2], pa.int64()), "x": pa.array([0.5, None], pa.float32())}),
        pa.table({"n": pa.array([1, 2], pa.int16()), "x": pa.array([0.5, None], pa.float64())}),
    ],
    ids=["polars wide", "polars narrow", "arrow wide", "arrow narrow"],
)
@pytest.mark.parametrize("read", [(pa.int32(), pa.float64()), (pa.int64(), pa.float32())], ids=str)
def test_numbers_of_polars_and_arrow_have_the_width_of_training(table: Any, read: Any) -> None:
    """In the width of the query, integers could overflow where they did not in training."""
    spec = input_spec(parse_signature("s", dump_signature(make_signature(Constant(), table))))
    arrays = [pa.array([1, 2], read[0]), pa.array([0.5, None], read[1])]
    built = spec.build(pa.RecordBatch.from_arrays(arrays, names=["n", "x"]))
    assert built.equals(table)
    assert built.schema == table.schema


HELD_BY_ARROW = pa.table(
    {
        "visits": pa.array([1, None, 100], pa.int16()),
        "spend": pa.array([0.5, None, -1.25], pa.float32()),
        "price": pa.array([Decimal("1.50"), None, Decimal("-2.25")], pa.decimal128(10, 2)),
        "city": pa.array(["Rome", None, "Zürich"]),
        "member": pa.array([True, None, False]),
        "since": pa.array([datetime(2026, 3, 29, 2, 30, 0, 123456), None, datetime(2026, 1, 1)]),
        "seen": pa.array([datetime(2026, 3, 29, 2, 30, tzinfo=UTC), None, None]),
        "day": pa.array([date(2026, 1, 1), None, date(1, 1, 1)]),
        "opens": pa.array([time(9, 30), None, time(23, 59, 59, 999999)]),
        "lasts": pa.array([timedelta(hours=9), None, timedelta(0)]),
        "raw": pa.array([b"\x00", None, b""]),
    }
)
# As MariaDB and SQLite give them.
OTHER_TYPES = {
    "visits": pa.int64(),
    "spend": pa.float64(),
    "price": pa.decimal128(38, 4),
    "member": pa.int8(),
    "opens": pa.duration("us"),
    "lasts": pa.time64("us"),
    "seen": pa.timestamp("us", "UTC"),
}


@pytest.mark.parametrize("others", [{}, OTHER_TYPES, {"price": pa.string()}], ids=["own", "other", "text"])
@pytest.mark.parametrize("is_frame", [True, False], ids=["pandas", "arrow"])
def test_columns_that_arrow_holds_are_those_of_training(is_frame: bool, others: Any) -> None:
    trained = HELD_BY_ARROW.to_pandas(types_mapper=pd.ArrowDtype) if is_frame else HELD_BY_ARROW
    signature = signature_of(trained)
    golden = golden_batch(signature)
    fields = [(field.name, others.get(field.name, field.type)) for field in golden.schema]
    read, places = as_read(golden, pa.schema(fields))
    assert len(places) == 3
    spec = input_spec(signature)
    check_query(signature, read.schema)
    spec.check(read.schema)
    built = spec.build(read)
    if is_frame:
        assert built.dtypes.to_dict() == trained.dtypes.to_dict()
        built = pa.Table.from_pandas(built, HELD_BY_ARROW.schema, preserve_index=False)
    assert sorted(built.to_pylist(), key=str) == sorted(HELD_BY_ARROW.to_pylist(), key=str)
    assert built.schema.types == HELD_BY_ARROW.schema.types


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("visits", pa.array([1.5])),
        ("visits", pa.array([2**15])),
        ("member", pa.array([2])),
        ("day", pa.array([datetime(2026, 1, 1, 12)])),
        ("since", pa.array([datetime(2026, 1, 1, tzinfo=UTC)])),
        ("price", pa.array([0.1])),
    ],
)
def test_a_value_that_arrows_type_of_training_cannot_express_is_refused(name: str, found: pa.Array) -> None:
    signature = signature_of(HELD_BY_ARROW.select([name]).to_pandas(types_mapper=pd.ArrowDtype))
    rows = pa.RecordBatch.from_arrays([found], names=[name])
    with pytest.raises(FeatureError, match=f"column '{name}'"):
        input_spec(signature).build(rows)


def test_the_table_of_golden_rows_is_that_of_training() -> None:
    signature = signature_of()
    built = input_spec(signature).build(golden_batch(signature))
    order = built["visits"].argsort().to_numpy()
    expected = ROWS.iloc[ROWS["visits"].argsort().to_numpy()].reset_index(drop=True)
    pd.testing.assert_frame_equal(built.iloc[order].reset_index(drop=True), expected)
    assert built["city"].tolist().count(None) == 1


@pytest.mark.parametrize(
    ("rows", "names", "container", "dtype"),
    [
        (np.ones((3, 2), dtype=np.float32), ["a", "b"], "matrix", np.dtype("float32")),
        (np.ones((3, 2)), ["a", "b"], "matrix", np.dtype("float64")),
        (np.full((3, 2), 2**60 + 1), ["a", "b"], "matrix", np.dtype("int64")),
        (np.ones((3, 2), dtype=np.uint8), ["a", "b"], "matrix", np.dtype("uint8")),
        (np.array([[True, False], [False, True]]), ["a", "b"], "matrix", np.dtype(bool)),
        (np.array([["a", 1], ["b", 2]], dtype=object), ["a", "b"], "matrix", np.dtype(object)),
        (np.array([["a", "c"], ["b", "d"]]), ["a", "b"], "matrix", np.dtype(object)),
    ],
)
def test_a_matrix_is_one_again(rows: Any, names: list[str], container: str, dtype: Any) -> None:
    signature = signature_of(rows, names=names)
    spec = input_spec(signature)
    built = spec.build(golden_batch(signature))
    assert isinstance(spec, InputSpec)
    assert (spec.container, built.dtype, built.shape[1]) == (container, dtype, 2)


@pytest.mark.parametrize("missing", [None, np.nan], ids=str)
def test_a_missing_text_in_a_matrix_looks_as_in_training(missing: Any) -> None:
    rows = np.array([["a", 1.0], [missing, 2.0]], dtype=object)
    signature = signature_of(rows, names=["a", "b"])
    built = input_spec(signature).build(golden_batch(signature))
    (found,) = (value for value in built[:, 0] if not isinstance(value, str))
    assert (found is None) == (missing is None)


@pytest.mark.parametrize(
    "categories",
    [["S", "M"], [1, 2, 3], [0.5, 1.5], [True, False], [datetime(2026, 1, 1), datetime(2026, 1, 2)]],
)
def test_categories_of_any_type_are_those_of_training(categories: list[Any]) -> None:
    rows = pd.DataFrame({"c": pd.Categorical(categories[:2], categories=categories, ordered=True)})
    signature = signature_of(rows)
    built = input_spec(signature).build(golden_batch(signature))["c"]
    assert built.cat.categories.tolist() == rows["c"].cat.categories.tolist()
    assert built.cat.ordered
    assert sorted(built.astype(object)) == sorted(rows["c"].astype(object))


@pytest.mark.parametrize("holder", [list, np.array, pd.Series])
def test_documents_are_texts_again(holder: Any) -> None:
    texts = ["good film", "bad film"]
    signature = signature_of(holder(texts), names=["review"])
    assert sorted(input_spec(signature).build(golden_batch(signature))) == sorted(texts)


def test_rows_are_read_in_the_types_of_a_query_if_those_have_room() -> None:
    rows = pd.DataFrame({"n": [1, 300, 2], "x": [0.5, 1.0, 1.1]})
    usual = golden_batch(signature_of(rows))
    kinds = pa.schema([("x", pa.decimal128(4, 1)), ("n", pa.uint8())])
    batch, places = as_read(usual, kinds)
    assert {row["n"] for row in batch.to_pylist()} == {1, 2}
    assert len(places) == 2
    assert batch.schema.field("n").type == pa.uint8()
    assert as_read(usual, pa.schema([("x", pa.float32()), ("n", pa.int64())]))[0].num_rows == 2  # not 1.1


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("city", pa.int64()),
        ("spend", pa.string()),
        ("visits", pa.timestamp("us")),
        ("since", pa.int64()),
        ("member", pa.string()),
    ],
)
def test_a_column_of_another_kind_is_refused_with_its_name_and_a_cast(name: str, found: pa.DataType) -> None:
    with pytest.raises(FeatureError, match=re.escape(f"'{name}': found {found}")) as refused:
        check_query(signature_of(), pa.schema([(name, found)]))
    assert f"CAST({name} AS" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("spend", pa.decimal128(10, 2)),
        ("visits", pa.int16()),
        ("visits", pa.null()),
        ("since", pa.date32()),
        ("since", pa.string()),
        ("member", pa.int8()),
        ("city", pa.dictionary(pa.int8(), pa.string())),
        ("else", pa.string()),
    ],
)
def test_a_column_that_can_become_that_of_training_passes(name: str, found: pa.DataType) -> None:
    check_query(signature_of(), pa.schema([(name, found)]))


def test_a_double_is_not_read_as_a_decimal() -> None:
    rows = pd.DataFrame({"price": pd.Series([Decimal("1.50"), Decimal(2)] * 10, dtype=object)})
    signature = signature_of(rows)
    with pytest.raises(FeatureError, match="'price': found double"):
        check_query(signature, pa.schema([("price", pa.float64())]))
    check_query(signature, pa.schema([("price", pa.string())]))
    batch, places = as_read(golden_batch(signature), pa.schema([("price", pa.string())]))
    assert len(places) == batch.num_rows
    assert {*batch.column("price").to_pylist()} == {"1.50", "2.00"}


@pytest.mark.parametrize("kind", [pa.duration("us"), pa.string(), pa.time64("us"), pa.time32("s")], ids=str)
def test_golden_times_of_day_are_read_in_the_type_of_the_query(kind: pa.DataType) -> None:
    rows = pd.DataFrame({"opens": pd.Series([time(9, 30), time(0), None] * 10, dtype=object)})
    usual = golden_batch(signature_of(rows))
    batch, places = as_read(usual, pa.schema([("opens", kind)]))
    assert len(places) == usual.num_rows
    assert batch.schema.field("opens").type == kind
    assert as_clock_times(batch.column("opens")).equals(usual.column("opens"))


@pytest.mark.parametrize("kind", [pa.time64("us"), pa.duration("us")], ids=str)
def test_golden_spans_are_read_in_the_type_of_the_query(kind: pa.DataType) -> None:
    rows = pd.DataFrame({"took": pd.Series(pd.to_timedelta(["9h", "30h", None] * 10))})
    _, places = as_read(golden_batch(signature_of(rows)), pa.schema([("took", kind)]))
    assert len(places) == (30 if pa.types.is_duration(kind) else 20)


def test_a_library_is_found_in_a_package_of_another_name() -> None:
    then = {"xgboost": version("xgboost-cpu"), "category_encoders": version("category-encoders")}
    assert changed_libraries(parse_signature("s", dump_signature(content() | {"libraries": then}))) == []


def test_libraries_that_changed_are_named_with_both_versions() -> None:
    then = {"python": "3.9.1", "sklearn": "1.0.2", "numpy": np.__version__}
    found = changed_libraries(parse_signature("s", dump_signature(content() | {"libraries": then})))
    assert found[0].startswith("Python 3.9.1, here 3.")
    assert found[1].startswith("scikit-learn 1.0.2, here ")
    assert len(found) == 2


def test_a_file_that_comes_in_pieces_is_read_whole() -> None:
    """As over HTTP, from a server that does not say how long it is."""

    class Pieces(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 7, 7))

    assert read_bounded("far", Pieces(b"x" * 100)) == b"x" * 100
