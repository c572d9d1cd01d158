"""A function or a class of the deployment's own as a model: rules, and glue around models."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import ArtifactError, FeatureError
from mlops_plugin.formats.column_values import ColumnSpec
from mlops_plugin.formats.custom.python_package import Place, import_verified
from mlops_plugin.formats.estimator_walk import known_names
from mlops_plugin.formats.features import check_names
from mlops_plugin.formats.input_rules import StatedInput, column_by_type, stated_column
from mlops_plugin.formats.model_input import InputSpec, spec_of
from mlops_plugin.formats.scikit import ScikitRuntime

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.model_input import SignedSpec


def load_python(
    artifact: ArtifactConfig, features: tuple[str, ...] | None, signed: SignedSpec | None = None
) -> ScikitRuntime:
    """Import what `uri` names, and make an instance if it is a class.

    Raises `ArtifactError` if that fails or is no model, `FeatureError` if nothing names its columns.
    """
    place = Place.of(artifact.uri)
    found, sha256 = import_verified(place, artifact.pins[0] if artifact.pins else None)
    model = OwnCode(place.uri, _instance(place, found))
    if features is None and signed is None and known_names(model) is None:
        raise FeatureError(
            f"model '{place.uri}' does not say which columns it reads; set `features:` to their names"
        )
    stated = StatedInput(artifact.container, artifact.dtypes)
    return PythonRuntime(place.uri, sha256, model, features, stated=stated, signed=signed)


def _instance(place: Place, found: object) -> Any:
    if not isinstance(found, type):
        if not inspect.isfunction(found) or inspect.iscoroutinefunction(found):
            raise ArtifactError(
                f"model '{place.uri}' is a {type(found).__name__}; name a function that takes a table and "
                "returns an answer for each row, or a class with such a `predict`"
            )
        return found
    if not callable(getattr(found, "predict", None)):
        raise ArtifactError(f"model '{place.uri}' is a class without `predict`; add it, or name a function")
    try:
        return found()
    except MemoryError:
        raise
    except (Exception, SystemExit) as exc:
        raise ArtifactError(
            f"model '{place.uri}': {place.name}() raised {type(exc).__name__}: "
            f"{str(exc).partition(chr(10))[0]}; a class is made without arguments"
        ) from exc


_LABELS = {bool, int, float, str}


class OwnCode:
    """A function, or an instance with `predict`; whatever else an instance has is the model's, too."""

    def __init__(self, uri: str, code: Any) -> None:
        self._uri = uri
        self._code = code

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__dict__["_code"], name)
        if name == "classes_" and isinstance(value, list | tuple):  # of one output; several have arrays
            kinds = {type(label) for label in value}
            return np.array(value, dtype=None if len(kinds) == 1 else object) if kinds <= _LABELS else value
        return value

    def predict(self, table: Any) -> Any:
        """Its answers as an array or a list, in the order of the rows."""
        ask = self._code if inspect.isfunction(self._code) else self._code.predict
        answers = ask(table)
        self._require_order(table, answers)
        if isinstance(answers, pa.Table | pa.RecordBatch) or _is_of(answers, "polars", "DataFrame"):
            table = answers if isinstance(answers, pa.Table | pa.RecordBatch) else answers.to_arrow()
            return _side_by_side([_values(column) for column in table.columns])
        if _is_of(answers, "pandas", "DataFrame"):
            return _side_by_side([answers.iloc[:, place].to_numpy() for place in range(answers.shape[1])])
        if _is_of(answers, "polars", "Series"):
            answers = answers.to_arrow()
        return _values(answers) if isinstance(answers, pa.Array | pa.ChunkedArray) else answers

    def _require_order(self, table: Any, answers: Any) -> None:
        """pandas remembers where a value came from: an answer that was sorted would be another row's."""
        both = _is_of(answers, "pandas", "Series", "DataFrame") and _is_of(table, "pandas", "DataFrame")
        if both and len(answers) == len(table) and not answers.index.equals(table.index):
            raise ArtifactError(
                f"model '{self._uri}' answers with an index that is not that of the rows (sorted, or "
                "another one): bring the answers into the rows' order, or return a list or an array"
            )


def _is_of(value: Any, library: str, *names: str) -> bool:
    """Whether it is such an object, of a library that need not be installed."""
    return any(
        base.__name__ in names and base.__module__.partition(".")[0] == library
        for base in type(value).__mro__
    )


def _values(column: pa.Array | pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """A column's values; None for NULL."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if column.null_count or not (pa.types.is_primitive(column.type) or pa.types.is_boolean(column.type)):
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_pylist()
        return values
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _side_by_side(columns: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """One column, or a matrix; of objects if its columns have several types."""
    if len(columns) == 1:
        return columns[0]
    if len({column.dtype for column in columns}) == 1 and columns[0].dtype.kind in "biuf":
        return np.column_stack(columns)
    return np.column_stack([column.astype(object) for column in columns]) if columns else np.empty((0, 0))


class PythonRules:
    """The table of code that was never trained: by the query's types, unless the configuration says more."""

    def __init__(self, features: tuple[str, ...], stated: StatedInput) -> None:
        self._features = features
        self._stated = stated
        self._container = stated.container or "frame"
        stated.require_features(features)

    def specs(self, rows: pa.Schema) -> list[InputSpec]:
        """The one table for rows of this schema."""
        check_names(self._features, rows)
        if self._container in ("polars", "arrow"):  # which have NULL in columns of every type
            return [InputSpec(self._container, tuple(_in_arrow(rows.field(name)) for name in self._features))]
        spec = spec_of(self._container, [self._column(rows.field(name)) for name in self._features])
        spec.check(rows)
        return [spec]

    def example(self) -> dict[str, Any]:
        """A made-up row."""
        return dict.fromkeys(self._features, 1.0)

    def _column(self, field: pa.Field) -> ColumnSpec:
        if self._container == "documents":
            return ColumnSpec(field.name, "text", "none")
        dtype = (self._stated.dtypes or {}).get(field.name)
        return stated_column(field.name, dtype) if dtype else column_by_type(field, None, is_float=False)


def _in_arrow(field: pa.Field) -> ColumnSpec:
    """A column of a Polars or Arrow table: numbers have 64 bits, whatever the connection says."""
    wide = None
    if pa.types.is_integer(field.type):
        wide = pa.int64()
    elif pa.types.is_floating(field.type):
        wide = pa.float64()
    return ColumnSpec(field.name, "object", "none", arrow_type=wide)


class PythonRuntime(ScikitRuntime):
    """`OwnCode`, asked like any estimator."""

    def _input_rules(self, model: Any, stated: StatedInput) -> PythonRules:  # noqa: ARG002 - was never trained
        return PythonRules(self.features, stated)
