"""What a program must know of a model to ask it: its inputs and outputs as tensors, and its version."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import FeatureError, MlopsError, ServingError
from mlops_plugin.formats.signature.signature import Signature, read_signature
from mlops_plugin.inference_server.tensors import ARROW_TYPES, tensor_column
from mlops_plugin.pipeline.validation.contract import Contract
from mlops_plugin.workers.pool import ModelPool

# A signature's kinds; a text becomes a date, or a decimal, where the model was trained on these.
_DATATYPES = {"boolean": "BOOL", "integer": "INT64", "number": "FP64"}

_ATTEMPTS = 3  # of a signature that is exchanged meanwhile


@dataclass(frozen=True)
class TensorDescription:
    """One input or output for each row."""

    name: str
    datatype: str


@dataclass(frozen=True)
class ModelDescription:
    """A model as it is loaded; `version` is the SHA-256 of its artifact.

    `checked`: the columns that its contract names. `signature_sha256` and `baseline_sha256`: of the files by
    which it reads and checks its rows, None without. `answers_together`: False if its signature says that an
    answer may depend on the rows beside it, which must not be another caller's.
    """

    version: str
    features: tuple[str, ...]
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]
    checked: tuple[str, ...] = ()
    signature_sha256: str | None = None
    baseline_sha256: str | None = None
    answers_together: bool = True


class ModelDescriptions:
    """Describes models, each version once."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def last(self, model: ModelConfig) -> ModelDescription | None:
        """The model as it was described last under this configuration; it may have changed since."""
        known = self._known.get(model.name)
        return known.description if known is not None and known.model is model else None

    def describe(self, model: ModelConfig, pool: ModelPool) -> ModelDescription:
        """The model's description; loads it if it is not loaded. Raises what loading raises."""
        baseline = pool.baseline_sha256(model)
        files = (pool.artifact_sha256(model), pool.signature_sha256(model), baseline)
        known = self._known.get(model.name)
        if known is not None and known.model is model and known.files == files:
            return known.description
        described = _describe(model, pool, baseline)
        files = (described.version, described.signature_sha256, baseline)
        with self._lock:
            self._known[model.name] = _Known(model, files, described)
        return described


def _describe(model: ModelConfig, pool: ModelPool, baseline: str | None) -> ModelDescription:
    for _ in range(_ATTEMPTS):
        signature = read_signature(pool.of_version(model).model)
        with pool.runtime(model) as runtime:
            if runtime.signature_sha256 != (signature and signature.sha256):
                continue  # it was exchanged while the model was loaded
            return ModelDescription(
                runtime.artifact_sha256,
                runtime.features,
                tuple(_inputs(signature, runtime.features, runtime)),
                tuple(_output(field) for field in runtime.outputs),
                _checked_columns(model),
                runtime.signature_sha256,
                baseline,
                answers_together=signature is None or not signature.golden.unstable,
            )
    raise ServingError(f"models.{model.name}: its signature changes all the time; try again in a moment")


@dataclass(frozen=True)
class _Known:
    """A description, and the configuration and the hashes of the files that it was made by."""

    model: ModelConfig
    files: tuple[str | None, ...]
    description: ModelDescription


def _checked_columns(model: ModelConfig) -> tuple[str, ...]:
    contract = Contract.of(model)
    return () if contract is None else tuple(contract.rules)


class _Checks(Protocol):
    def check(self, rows: pa.Schema) -> None: ...


def _inputs(
    signature: Signature | None, features: tuple[str, ...], runtime: _Checks
) -> Iterator[TensorDescription]:
    kinds = {column.name: column.kind for column in signature.input.columns} if signature else {}
    unknown = [name for name in features if name not in kinds]
    takes_numbers = bool(unknown) and _takes(runtime, {**dict.fromkeys(features, pa.float64())})
    for name in features:
        if name in kinds:
            yield TensorDescription(name, _DATATYPES.get(kinds[name], "BYTES"))
            continue
        # A column of NULLs only fits everywhere, so that each feature is tried by itself.
        alone = {**dict.fromkeys(features, pa.null()), name: pa.float64()}
        yield TensorDescription(name, "FP64" if takes_numbers or _takes(runtime, alone) else "BYTES")


def _takes(runtime: _Checks, columns: dict[str, pa.DataType]) -> bool:
    try:
        runtime.check(pa.schema(columns))
    except FeatureError:
        return False
    except MlopsError:
        return True  # the model has something against all rows; each request hears it
    return True


def _output(field: pa.Field) -> TensorDescription:
    datatype, _ = tensor_column(pa.array([], field.type))
    assert datatype in ARROW_TYPES  # noqa: S101 -- what `tensor_column` returns
    return TensorDescription(field.name, datatype)
