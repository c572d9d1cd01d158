"""The inputs of an ONNX model: which columns each tensor holds, and their values in its type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlops_plugin.errors import ArtifactError, FeatureError
from mlops_plugin.formats.column_values import ColumnSpec
from mlops_plugin.formats.native.native_model import Values, number_column
from mlops_plugin.formats.runtime import REFUSES_NULL

_TYPES = {
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "text",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_VECTOR, _MATRIX = 1, 2


@dataclass(frozen=True)
class OnnxInput:
    """A tensor that the model reads: some columns from `start` on; `dtype` NumPy's name, or `text`."""

    name: str
    dtype: str
    start: int
    width: int
    rank: int
    is_single_row: bool  # the file was made for one row at a time

    def column(self, name: str, dtypes: Mapping[str, str]) -> ColumnSpec:
        """A column of it: floats know a missing value, no other tensor does."""
        if self.dtype.startswith("float"):
            declared = number_column(name, dtypes)
            return declared if self.dtype == "float64" else ColumnSpec(name, self.dtype)
        return ColumnSpec(name, self.dtype, "refused")

    @property
    def example(self) -> Any:
        """A value that it may hold."""
        return {"text": "text", "bool": True}.get(self.dtype, 1.0 if self.dtype.startswith("float") else 1)

    def tensor(self, table: Any) -> Values:
        """The columns of a DataFrame or a matrix; raises `FeatureError` for a value that it cannot hold."""
        if hasattr(table, "iloc"):
            part = table.iloc[:, self.start : self.start + self.width]
            values = part.to_numpy(dtype=object) if self.dtype == "text" else part.to_numpy()
        else:
            values = np.asarray(table, dtype=object if self.dtype == "text" else None)
            values = values.reshape(len(values), -1)[:, self.start : self.start + self.width]
        converted = self._texts(values) if self.dtype == "text" else self._numbers(values)
        return converted.reshape(-1) if self.rank == _VECTOR else np.ascontiguousarray(converted)

    def _texts(self, values: Values) -> Values:
        for value in values.ravel():
            if not isinstance(value, str):
                is_missing = value is None or value != value
                what = f"{REFUSES_NULL}: input" if is_missing else f"{value!r} is no text, as in input"
                raise FeatureError(f"{what} '{self.name}' of the ONNX model; it reads texts")
        return values

    def _numbers(self, values: Values) -> Values:
        if values.dtype == object:
            values = values.astype(np.float64)
        wanted = np.dtype(self.dtype)
        if wanted.kind == "f" or values.dtype == wanted:
            return values.astype(wanted, copy=False)
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise FeatureError(f"{REFUSES_NULL}: input '{self.name}' of the ONNX model is {self.dtype}")
        with np.errstate(invalid="ignore"):
            converted = values.astype(wanted)
        if (converted != values).any():
            first = values[converted != values][0]
            raise FeatureError(
                f"the model refuses the rows: {first} is no {self.dtype}, which its input '{self.name}' is; "
                "cast it in the query"
            )
        return converted


def inputs_of(uri: str, described: Sequence[Any], feature_count: int) -> list[OnnxInput]:
    """The inputs of a session; `feature_count` is the width of the only one if the file leaves it open.

    Raises `ArtifactError` for an input that no columns of a table can fill.
    """
    inputs: list[OnnxInput] = []
    for each in described:
        dtype = _TYPES.get(each.type)
        shape = list(each.shape or ())
        if dtype is None or len(shape) not in (_VECTOR, _MATRIX):
            raise ArtifactError(
                f"model file '{uri}': input '{each.name}' is {each.type} of shape {shape}; columns of a "
                "table fill tensors of numbers, booleans or texts, of one or two dimensions"
            )
        width: Any = shape[1] if len(shape) == _MATRIX else 1
        if not isinstance(width, int):
            if len(described) > 1:
                raise ArtifactError(
                    f"model file '{uri}': input '{each.name}' has no fixed number of columns; export the "
                    "model with one"
                )
            width = feature_count
        rows = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
        if rows is not None and rows != 1:
            raise ArtifactError(
                f"model file '{uri}': input '{each.name}' takes {rows} rows at a time; export the model with "
                "an open number of rows"
            )
        start = sum(other.width for other in inputs)
        inputs.append(OnnxInput(each.name, dtype, start, width, len(shape), rows == 1))
    return inputs
