"""Reads MLflow's signature of a model's input, which is JSON in a text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mlops_plugin.errors import ArtifactError
from mlops_plugin.formats.mlflow_models.trained_input import TrainedInput
from mlops_plugin.formats.mlflow_models.trained_types import OF_COLUMNS, OF_TENSORS, with_missing

_MOST_COLUMNS = 100_000  # no query returns as many
_HALF_PAIR = re.compile("[\ud800-\udfff]")


class _Tensor(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    dtype: str
    shape: tuple[int, ...]


class _Spec(BaseModel):
    """A column, or a tensor; MLflow wrote `optional` before it wrote `required`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    name: str | None = None
    required: bool | None = None
    optional: bool | None = None
    tensor: _Tensor | None = Field(default=None, alias="tensor-spec")

    @property
    def is_optional(self) -> bool:
        return bool(self.optional) if self.required is None else not self.required


_SPECS: TypeAdapter[list[_Spec]] = TypeAdapter(list[_Spec])


def parse_input(uri: str, text: str | None) -> TrainedInput | None:
    """The input of a signature; None if it has none. Raises `ArtifactError` for what rows cannot become."""
    if text is None:
        return None
    try:
        specs = _SPECS.validate_python(json.loads(text) or [])
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise _unreadable(uri, f"{where}: {first['msg']}") from exc
    except (ValueError, RecursionError) as exc:
        raise _unreadable(uri, "it is not JSON") from exc
    if not specs:
        return None
    names = [spec.name for spec in specs if spec.name is not None]
    if len({*names}) < len(names) or len(names) not in (0, len(specs)):
        raise _unreadable(uri, "some columns have no name, or the same")
    if any(map(_HALF_PAIR.search, names)):
        raise _unreadable(uri, "the name of a column is no text")
    if len(specs) == 1 and specs[0].tensor is not None:
        return _matrix(uri, specs[0], specs[0].tensor)
    dtypes = tuple(_dtype(uri, number, spec) for number, spec in enumerate(specs))
    return TrainedInput(tuple(names) or None, dtypes)


def _matrix(uri: str, spec: _Spec, tensor: _Tensor) -> TrainedInput:
    """A tensor of rows x columns, or of one value for each row."""
    dtype = _tensor_dtype(uri, spec.name, tensor)
    if len(tensor.shape) > 2 or not tensor.shape:
        raise _refused(uri, spec.name, f"a tensor of the shape {tensor.shape}")
    width = tensor.shape[1] if len(tensor.shape) == 2 else 1
    if width > _MOST_COLUMNS:
        raise _refused(uri, spec.name, f"a tensor of {width} columns, more than {_MOST_COLUMNS}")
    return TrainedInput(None, (dtype,) * max(width, 1), is_of_any_width=width < 1)


def _dtype(uri: str, number: int, spec: _Spec) -> str:
    name = spec.name or f"number {number + 1}"
    if spec.tensor is not None:
        if tuple(spec.tensor.shape[1:]) not in ((), (1,)):
            raise _refused(uri, name, f"a tensor of the shape {spec.tensor.shape}")
        return _tensor_dtype(uri, name, spec.tensor)
    found = OF_COLUMNS.get(spec.type)
    if found is None:
        raise _refused(uri, name, f"of the type {spec.type}")
    return with_missing(found) if spec.is_optional else found


def _tensor_dtype(uri: str, name: str | None, tensor: _Tensor) -> str:
    if tensor.dtype not in OF_TENSORS:
        raise _refused(uri, name, f"a tensor of {tensor.dtype}")
    return OF_TENSORS[tensor.dtype]


def _refused(uri: str, name: str | None, found: str) -> ArtifactError:
    which = "its input" if name is None else f"its column '{name}'"
    known: Sequence[Any] = [*OF_COLUMNS]
    return ArtifactError(
        f"model '{uri}': by MLflow's signature {which} is {found}, and a row of a query has single values "
        "only: "
        f"{', '.join(known)}; train a model that reads such columns"
    )


def _unreadable(uri: str, found: str) -> ArtifactError:
    return ArtifactError(
        f"model '{uri}': MLflow's signature in its MLmodel cannot be read: {found}; log the model again"
    )
