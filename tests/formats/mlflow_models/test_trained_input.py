"""MLflow's signature becomes features and types; what rows of a query cannot become is refused."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.errors import ArtifactError, FeatureError
from mlops_plugin.formats.mlflow_models.input_parsing import parse_input
from mlops_plugin.formats.mlflow_models.trained_input import TrainedInput
from mlops_plugin.formats.mlflow_models.trained_types import require_trained_kinds, trained_column


def parsed(*specs: dict[str, Any]) -> TrainedInput:
    found = parse_input("models/churn", json.dumps(specs))
    assert found is not None
    return found


def tensor(dtype: str, *shape: int, **more: str) -> dict[str, Any]:
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}, **more}


def test_columns_have_the_types_of_training_in_their_order() -> None:
    kinds = ("boolean", "integer", "long", "float", "double", "string", "datetime", "binary")
    found = parsed(*({"type": kind, "name": kind, "required": True} for kind in kinds))
    assert found.names == kinds
    assert found.dtypes == (
        "boolean", "int32", "integer", "float32", "number", "text", "timestamp", "bytes",
    )  # fmt: skip


def test_missing_values_in_training_leave_whole_numbers_and_booleans_undecided() -> None:
    for said in ({"required": False}, {"optional": True}):
        found = parsed(*({"type": kind, "name": kind, **said} for kind in ("long", "boolean", "double")))
        trained = found.by_name("models/churn", found.names)
        columns = [trained_column(trained, pa.field(name, pa.int64())) for name in trained]
        assert [column and column.dtype for column in columns] == [None, None, "float64"]


@pytest.mark.parametrize(
    ("specs", "features", "dtypes"),
    [
        ((tensor("float32", -1, 2),), ("x", "y"), {"x": "float32", "y": "float32"}),
        ((tensor("int64", -1, -1),), ("x", "y"), {"x": "integer", "y": "integer"}),
        ((tensor("float64", -1, 2),), None, {}),
        (
            (tensor("float32", -1, name="x"), tensor("str", -1, 1, name="y")),
            None,
            {"x": "float32", "y": "text"},
        ),
        (({"type": "long"}, {"type": "string"}), ("x", "y"), {"x": "integer", "y": "text"}),
    ],
)
def test_what_has_no_names_takes_those_of_the_configuration(
    specs: tuple[dict[str, Any], ...], features: tuple[str, ...] | None, dtypes: dict[str, str]
) -> None:
    found = parsed(*specs)
    assert found.by_name("models/churn", found.features("models/churn", features)) == dtypes


@pytest.mark.parametrize(
    ("specs", "features"),
    [
        ((tensor("float32", -1, 2),), None),
        ((tensor("float64", -1, 2),), ("x",)),
        (({"type": "long", "name": "x"}, {"type": "long", "name": "y"}), ("y", "x")),
        (({"type": "long", "name": "x"},), ("x", "y")),
    ],
    ids=["32 bits without names", "another width", "another order", "more columns"],
)
def test_features_that_contradict_the_signature_are_refused(
    specs: tuple[dict[str, Any], ...], features: tuple[str, ...] | None
) -> None:
    found = parsed(*specs)
    with pytest.raises(FeatureError):
        found.by_name("models/churn", found.features("models/churn", features))


@pytest.mark.parametrize(
    ("spec", "fact"),
    [
        ({"type": "array", "items": {"type": "double"}, "name": "x"}, "array"),
        ({"type": "object", "properties": {}, "name": "x"}, "object"),
        ({"type": "sparse_vector", "name": "x"}, "sparse_vector"),
        (tensor("float32", -1, 28, 28), "(-1, 28, 28)"),
        (tensor("complex128", -1, 2), "complex128"),
    ],
)
def test_a_column_that_no_query_returns_is_refused_by_its_type(spec: dict[str, Any], fact: str) -> None:
    with pytest.raises(ArtifactError) as refused:
        parsed(spec)
    assert fact in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[" * 100_000,
        '{"type": "long"}',
        '[{"name": "x"}]',
        '[{"type": "long", "name": "x"}, {"type": "long"}]',
        '[{"type": "long", "name": "x"}, {"type": "long", "name": "x"}]',
    ],
)
def test_a_signature_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="models/churn"):
        parse_input("models/churn", text)


def test_a_model_without_a_signature_has_no_types() -> None:
    assert parse_input("models/churn", None) is parse_input("models/churn", "[]") is None


@pytest.mark.parametrize(
    ("dtype", "kind", "is_readable"),
    [
        ("integer", pa.float64(), True),
        ("integer", pa.string(), False),
        ("text", pa.string(), True),
        ("text", pa.int64(), False),
        ("boolean", pa.int64(), True),
        ("boolean", pa.float64(), False),
        ("timestamp", pa.date32(), True),
        ("timestamp", pa.int64(), False),
        ("bytes", pa.binary(), True),
        ("bytes", pa.string(), False),
        ("integer or NULL", pa.string(), False),
        ("number", pa.null(), True),
    ],
)
def test_a_query_must_return_columns_of_the_kind_of_training(
    dtype: str, kind: pa.DataType, is_readable: bool
) -> None:
    rows = pa.schema([("x", kind)])
    if is_readable:
        require_trained_kinds({"x": dtype}, rows)
        return
    with pytest.raises(FeatureError) as refused:
        require_trained_kinds({"x": dtype}, rows)
    assert f"column 'x': found {kind}" in str(refused.value)
