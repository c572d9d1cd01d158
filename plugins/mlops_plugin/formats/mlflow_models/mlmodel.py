"""The file `MLmodel` that MLflow writes: which library saved the model, in which file, and its signature.

It is read as data. Which of our formats a flavour is, `choose_flavour` says; MLflow's loaders are never used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from mlops_plugin.config.document import Document, Unreadable, parse
from mlops_plugin.errors import ArtifactError
from mlops_plugin.formats.mlflow_models.input_parsing import parse_input
from mlops_plugin.formats.mlflow_models.logged_model import Flavour, LoggedModel
from mlops_plugin.formats.mlflow_models.model_files import DESCRIPTION
from mlops_plugin.formats.mlflow_models.paths import require_plain_path

_PYFUNC = "python_function"
_FILE_KEYS = {"sklearn": "pickled_model"}  # of a flavour; the others say `data`
_SERIALIZATIONS = {"pickle": "pickle", "cloudpickle": "pickle", "joblib": "joblib", "skops": "skops"}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class StoredSignature(_Part):
    """MLflow's signature; `inputs` is JSON in a text."""

    inputs: str | None = None


class MLmodel(_Part):
    """A whole file, as far as it is used here."""

    flavors: dict[str, dict[str, Any]]
    signature: StoredSignature | None = None


def describe(uri: str, content: bytes, sizes: Mapping[str, int]) -> LoggedModel:
    """What the content of `MLmodel` says of a model; raises `ArtifactError` if it is none for us.

    `sizes` has the folder's files.
    """
    model = parse_mlmodel(uri, content)
    text = None if model.signature is None else model.signature.inputs
    flavour = choose_flavour(uri, model, sizes)
    return LoggedModel(hashlib.sha256(content).hexdigest(), flavour, parse_input(uri, text))


def parse_mlmodel(uri: str, content: bytes) -> MLmodel:
    """The file's content; raises `ArtifactError` if it is none of MLflow's."""
    try:
        document = parse(content.decode(), DESCRIPTION)
        _require_flawless(document)
        return MLmodel.model_validate(document.value)
    except UnicodeDecodeError as exc:
        raise _no_mlmodel(uri, "it is not UTF-8") from exc
    except Unreadable as exc:
        raise _no_mlmodel(uri, str(exc) if exc.line is None else f"line {exc.line}: {exc}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise _no_mlmodel(uri, f"{where}: {first['msg']}") from exc


def _require_flawless(document: Document) -> None:
    for flaw in document.flaws:
        raise Unreadable(f"{'.'.join(map(str, flaw.path))}: {flaw.message}", flaw.line)


def choose_flavour(uri: str, model: MLmodel, sizes: Mapping[str, int]) -> Flavour:
    """The flavour by which the model is read; raises `ArtifactError` if there is none for us.

    `sizes` has the folder's files.
    """
    name = next(
        (name for name in ("onnx", "xgboost", "lightgbm", "catboost", "sklearn") if name in model.flavors),
        None,
    )
    if name is None:
        _refuse_flavours(uri, model)
    flavour = model.flavors[name]
    key = _FILE_KEYS.get(name, "data")
    path = flavour.get(key)
    if not isinstance(path, str):
        raise _no_mlmodel(uri, f"flavors.{name}.{key} names no file")
    require_plain_path(uri, path)
    if path not in sizes:
        raise ArtifactError(
            f"model '{uri}' has no file '{path}', which its {DESCRIPTION} names (flavors.{name}.{key}); copy "
            "the whole folder"
        )
    return Flavour(name, _format_of(uri, name, flavour), path)


def _format_of(uri: str, name: str, flavour: Mapping[str, Any]) -> str:
    if name == "sklearn":
        serialization = str(flavour.get("serialization_format", "pickle"))
        if serialization not in _SERIALIZATIONS:
            raise ArtifactError(
                f"model '{uri}' was saved with serialization_format {serialization}; log it with "
                "serialization_format='skops' or 'cloudpickle'"
            )
        return _SERIALIZATIONS[serialization]
    if name == "catboost" and flavour.get("save_format", "cbm") != "cbm":
        raise ArtifactError(
            f"model '{uri}' was saved in CatBoost's format {flavour.get('save_format')}; log it with "
            "format='cbm'"
        )
    return name


def _refuse_flavours(uri: str, model: MLmodel) -> NoReturn:
    named = [name for name in model.flavors if name != _PYFUNC]
    if named:
        raise ArtifactError(
            f"model '{uri}' has the flavour {', '.join(named)}; supported are sklearn, xgboost, lightgbm, "
            "catboost and onnx: export it to ONNX and log it with mlflow.onnx, or serve it with `format: "
            "python`"
        )
    loader = model.flavors.get(_PYFUNC, {}).get("loader_module", "none")
    raise ArtifactError(
        f"model '{uri}' is a Python function of MLflow's only (loader_module {loader}), and its loader can "
        "run "
        "any code; log the trained model itself with mlflow.sklearn, xgboost, lightgbm, catboost or onnx, or "
        "put the code into a package and serve it with `format: python`"
    )


def _no_mlmodel(uri: str, found: str) -> ArtifactError:
    return ArtifactError(
        f"model '{uri}': its {DESCRIPTION} is none of MLflow's: {found}; log the model again with MLflow"
    )
