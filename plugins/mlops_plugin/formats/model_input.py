"""The table that a model reads: its container and, per column, the type and the missing value of training.

A signature, the configuration's `model:`, and the rules for models without a signature each give an
`InputSpec`; the runtime builds every batch by it alone. Neither the rows of a batch nor the type of the
connection decide anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.column_values import (
    ColumnSpec,
    array_of,
    check_columns,
    decoded,
    trained_array_of,
)
from mlops_plugin.formats.features import check_names, feature_matrix, narrowed

Container = Literal["frame", "matrix", "documents", "series", "records", "polars", "arrow"]

__all__ = ["ColumnSpec", "Container", "InputSpec"]


@dataclass(frozen=True)
class InputSpec:
    """The table that a model reads.

    `frame` is a pandas DataFrame; `matrix` a C-ordered array of `matrix_dtype` (None: that of its columns);
    `documents` a list with the texts of exactly one column, `series` the same as a pandas Series; `records` a
    list of dictionaries; `polars` and `arrow` are tables of these libraries.
    """

    container: Container
    columns: tuple[ColumnSpec, ...]
    matrix_dtype: Literal["float64", "float32", "object"] | None = "float64"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def check(self, rows: pa.Schema) -> None:
        """Raise `FeatureError` if rows of this schema cannot become the model's table, whatever they hold."""
        check_names(self.names, rows)
        if self.container in ("documents", "series") and len(self.columns) != 1:
            raise FeatureError(
                f"the model reads documents, which need exactly one text column; found "
                f"{len(self.columns)}: {', '.join(self.names)}; set `features:` to that column"
            )
        read = [ColumnSpec(name, "float64") for name in self.names] if self._is_of_floats else self.columns
        check_columns(read, rows)

    @property
    def _is_of_floats(self) -> bool:
        return self.container == "matrix" and self.matrix_dtype in ("float64", "float32")

    def build(self, rows: pa.RecordBatch) -> Any:
        """The model's table of these rows, whose schema `check` has passed.

        Raises `FeatureError` for a value that the column's type of training cannot express.
        """
        match self.container:
            case "matrix":
                return self._matrix(rows)
            case "documents":
                return [*self._array(rows, self.columns[0])]
            case "records":
                columns = [_python_values(self._array(rows, column)) for column in self.columns]
                return [dict(zip(self.names, values, strict=True)) for values in zip(*columns, strict=True)]
            case "arrow":
                return self._table(rows)
            case "polars":
                import polars

                return polars.from_arrow(self._table(rows))
            case "series":
                return self._frame(rows)[self.names[0]]
            case "frame":
                return self._frame(rows)

    def parts(self, rows: pa.RecordBatch) -> list[pa.Int64Array] | None:
        """Places of rows that must be asked in turn, or None if all rows fit in one table.

        NumPy's integers and booleans know no missing value. Rows that miss such a value get a table of
        their own, so that what the other rows are asked does not depend on who is beside them.
        """
        if self._is_of_floats:
            return None
        splitting = [column for column in self.columns if column.splits]
        missing = [rows.column(column.name).is_null() for column in splitting]
        missing = [mask for mask in missing if mask.true_count]
        if not missing:
            return None
        patterns = np.column_stack([mask.to_numpy(zero_copy_only=False) for mask in missing])
        _, groups = np.unique(patterns, axis=0, return_inverse=True)
        groups = groups.reshape(-1)
        return [pa.array(np.flatnonzero(groups == group)) for group in range(groups.max() + 1)]

    def _table(self, rows: pa.RecordBatch) -> pa.Table:
        arrays = [trained_array_of(column, rows.column(column.name)) for column in self.columns]
        return pa.Table.from_arrays(arrays, names=list(self.names))

    def _array(self, rows: pa.RecordBatch, column: ColumnSpec) -> Any:
        return array_of(column, rows.column(column.name))

    def _matrix(self, rows: pa.RecordBatch) -> Any:
        if self.matrix_dtype == "object":
            table = np.empty((rows.num_rows, len(self.columns)), dtype=object)
            for place, column in enumerate(self.columns):
                table[:, place] = _python_values(self._array(rows, column))
            return table
        if self.matrix_dtype is None:
            return np.ascontiguousarray(
                np.column_stack([self._array(rows, column) for column in self.columns])
            )
        matrix = feature_matrix(rows, self.names)
        if self.matrix_dtype == "float32":
            with np.errstate(over="ignore"):
                single = matrix.astype(np.float32)
            if np.isinf(single).any():
                for place, name in enumerate(self.names):
                    narrowed(name, matrix[:, place], "float32")  # says which number became infinite
            return single
        for place, column in enumerate(self.columns):
            if column.dtype in ("float16", "float32"):  # rounded before it became a part of the matrix
                matrix[:, place] = narrowed(column.name, matrix[:, place], column.dtype)
        return matrix

    def _frame(self, rows: pa.RecordBatch) -> Any:
        import pandas as pd

        if self.columns and all(column.is_plain_float for column in self.columns):
            # One block in C order, as in a matrix.
            return pd.DataFrame(feature_matrix(rows, self.names), columns=list(self.names), copy=False)
        index = pd.RangeIndex(rows.num_rows)
        columns = {}
        for column in self.columns:
            values = self._array(rows, column)
            # pandas would make texts of its own of objects, without a given type.
            columns[column.name] = pd.Series(values, index=index, dtype=values.dtype, copy=False)
        return pd.DataFrame(columns, columns=list(self.names), index=index)


@dataclass(frozen=True)
class SignedSpec:
    """The table that a signature describes, and the SHA-256 (64 hex digits) of the signature's file.

    `missing`: the columns of which a golden row misses a value; None if the answers to golden rows are not
    each row's own.
    """

    spec: InputSpec
    sha256: str
    missing: frozenset[str] | None = None


def spec_of(container: Container, columns: Iterable[ColumnSpec]) -> InputSpec:
    """A specification; a matrix with a column that is no number holds Python objects."""
    columns = tuple(columns)
    is_numeric = all(column.is_numeric for column in columns)
    return InputSpec(container, columns, "float64" if is_numeric else "object")


def _python_values(values: Any) -> list[Any]:
    if isinstance(values, pa.Array):
        values = decoded(values)
    return list(values.tolist())
