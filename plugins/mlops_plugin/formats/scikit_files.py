"""scikit-learn models from skops, joblib and pickle files, loaded from bytes that were verified first."""

from __future__ import annotations

import io
import pickle
import re
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_plugin.config.format_names import NATIVE_FORMATS
from mlops_plugin.errors import ArtifactError, MlopsError, UntrustedTypes
from mlops_plugin.formats.artifact import COMPRESSED, Verified, format_of, read_verified, refuse_no_model
from mlops_plugin.formats.boosting import is_bare_xgboost
from mlops_plugin.formats.importing.sklearn_import import lean_sklearn
from mlops_plugin.formats.importing.skops_import import import_skops_io
from mlops_plugin.formats.input_rules import StatedInput
from mlops_plugin.formats.scikit import ScikitRuntime

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.model_input import SignedSpec

Features = tuple[str, ...] | None
if TYPE_CHECKING:
    _Known = tuple[Features, SignedSpec | None, Verified | None]


# A module that was started with `-m` is called by its own name.
_MISSING_IN_MAIN = re.compile(
    r"attribute '(\w+)' on <module '(?:__main__|[\w.]+\.__main__|mlops_plugin\.workers\.worker)'"
    r"|'__main__' has no attribute '(\w+)'"
)
_RENAMED = re.compile(r"attribute '(\w+)' on <module '([\w.]+)'|module '([\w.]+)' has no attribute '(\w+)'")
_PLAIN = (str, int, float, bytes, type, type(None))
_UNTRUSTED = "contains types that are not trusted: "
_PYTHON, _FIRST_ON_PYTHON = "3.11", [1, 2]
_OLD_MODULES = ("_loss", "_gradient_boosting", "_tree", "_splitter", "_criterion", "_sgd_fast", "_kd_tree")


def load_skops(
    artifact: ArtifactConfig,
    features: Features,
    signed: SignedSpec | None = None,
    verified: Verified | None = None,
) -> ScikitRuntime:
    """Load a skops file; only scikit-learn's own types and those under `trusted:` may be in it."""
    skops_io = import_skops_io()
    from skops.io.exceptions import UntrustedTypesFoundException

    def loads(content: bytes) -> Any:
        try:
            model = skops_io.loads(content, trusted=list(artifact.trusted))
        except UntrustedTypesFoundException as exc:
            # What the file holds is asked, never obeyed: what may be loaded, the configuration says.
            unknown = sorted(set(skops_io.get_untrusted_types(data=content)) - set(artifact.trusted))
            raise UntrustedTypes(
                f"model file '{artifact.uri}' {_UNTRUSTED}{', '.join(unknown)}; "
                "if you know where the file comes from, review them and add them to `trusted:`"
            ) from exc
        if getattr(artifact, "isolation", "none") is None and _opens_files(model):
            raise ArtifactError(
                f"model file '{artifact.uri}' holds a vectorizer with input='filename', which opens each "
                "file that a row names; train it on texts, or, if you trust the file, set `model: "
                "{isolation: none}`"
            )
        return model

    return _load(artifact, (features, signed, verified), loads)


def _opens_files(model: Any) -> bool:
    """Whether a text vectorizer that reads files is anywhere in what skops has made, also in no step."""
    if "sklearn.feature_extraction.text" not in sys.modules:
        return False
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer

    seen: set[int] = set()
    left = [model]
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, _PLAIN):
            continue
        seen.add(id(one))
        if isinstance(one, CountVectorizer | HashingVectorizer) and not _reads_texts(vars(one).get("input")):
            return True
        if isinstance(one, dict):
            left += [*one, *one.values()]
        elif isinstance(one, list | tuple | set):
            left += one
        elif isinstance(one, np.ndarray):
            left += one.ravel().tolist() if one.dtype == object else []
        left += getattr(one, "__dict__", {}).values()
    return False


def _reads_texts(value: Any) -> bool:
    """Of a vectorizer's `input`: an array, or a text that is no plain one, may equal any text."""
    return type(value) is str and value in ("content", "file")


def untrusted_types(error: UntrustedTypes) -> tuple[str, ...]:
    """The types that it lists; it may come from another process, as text."""
    listed = Exception.__str__(error).partition(_UNTRUSTED)[2].partition(";")[0]
    return tuple(listed.split(", "))


def load_joblib(
    artifact: ArtifactConfig,
    features: Features,
    signed: SignedSpec | None = None,
    verified: Verified | None = None,
) -> ScikitRuntime:
    """Load what `joblib.dump` wrote, compressed or not; the file must be pinned by `sha256:`."""
    import joblib

    _require_pin(artifact)
    return _load(artifact, (features, signed, verified), lambda content: joblib.load(io.BytesIO(content)))


def load_pickle(
    artifact: ArtifactConfig,
    features: Features,
    signed: SignedSpec | None = None,
    verified: Verified | None = None,
) -> ScikitRuntime:
    """Load what `pickle.dump` wrote; the file must be pinned by `sha256:`."""
    _require_pin(artifact)
    return _load(artifact, (features, signed, verified), lambda content: pickle.loads(content))  # noqa: S301 - pinned by hash


def _require_pin(artifact: ArtifactConfig) -> None:
    if not artifact.pins:
        raise ArtifactError(
            f"model file '{artifact.uri}' is a {artifact.format} file, which runs code when it is loaded: "
            "pin it with `sha256:` (from `sha256sum`, run where the model was trained), "
            "or save the model with skops"
        )


def _load(artifact: ArtifactConfig, known: _Known, loads: Callable[[bytes], Any]) -> ScikitRuntime:
    features, signed, verified = known
    content, sha256, trained = verified or read_verified(artifact)
    refuse_no_model(artifact.uri, content)
    failure: Exception | None = None
    model: Any = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with lean_sklearn():
                model = loads(content)
        except ArtifactError:
            raise
        except Exception as exc:  # noqa: BLE001 - the file decides what is raised; it is reported just below
            failure = exc
    _refuse_other_version(artifact, caught)
    if failure is not None:
        raise ArtifactError(_load_failure(artifact, failure, content)) from failure
    if (reason := _no_model(model)) is not None:
        raise ArtifactError(f"model file '{artifact.uri}' holds {reason}")
    stated = StatedInput(artifact.container, artifact.dtypes, trained)
    try:
        return ScikitRuntime(artifact.uri, sha256, model, features, stated=stated, signed=signed)
    except MlopsError:
        raise
    except Exception as exc:  # a damaged file's estimator may lack what every one has
        raise ArtifactError(_load_failure(artifact, exc, content)) from exc


def _no_model(model: Any) -> str | None:
    """What is in the file if it is nothing that answers about rows, and what to do."""
    if isinstance(model, type):
        return f"the class {model.__qualname__}, whose `predict` needs a fitted model; save one"
    kind = f"a {type(model).__module__}.{type(model).__qualname__}"
    if is_bare_xgboost(model):
        return (
            f"{kind}, which reads a table of its own; save it with `save_model` and write `format: xgboost`, "
            "or save the model of XGBoost's interface for scikit-learn (XGBClassifier, XGBRegressor)"
        )
    if hasattr(model, "predict"):
        return None
    if getattr(model, "refit", True) is False:
        return (
            f"{kind} with refit=False, which keeps no model; search with refit=True, or save the model itself"
        )
    if hasattr(model, "fit_predict"):
        return (
            f"{kind}, which labels only the rows that it was fitted on; train one that predicts, "
            "e.g. LocalOutlierFactor(novelty=True), KMeans, or a classifier of its labels"
        )
    return f"{kind}, which has no `predict`; save the fitted model itself"


def _load_failure(artifact: ArtifactConfig, failure: Exception, content: bytes) -> str:
    message = str(failure).partition("\n")[0] or "no reason given"
    if missing := _MISSING_IN_MAIN.search(message):
        return (
            f"model file '{artifact.uri}' needs '{missing[1] or missing[2]}', which is in the script or "
            "notebook that saved the file (`__main__`) and not in the file; move it into a module that is "
            "installed here too, import it from there, and save the model again"
        )
    if absent := _absent_part(failure):
        return (
            f"model file '{artifact.uri}' was saved with another version of scikit-learn; "
            f"version {_running_sklearn()} runs here and has no {absent}; train the model again with it, or "
            f"{_own_libraries(artifact, 'the version of training')}"
        )
    if isinstance(failure, ModuleNotFoundError):
        return (
            f"model file '{artifact.uri}' needs the module '{failure.name}', which is not installed here; "
            f"install what the model was trained with, or {_own_libraries(artifact, 'its package')}"
        )
    if renamed := _RENAMED.search(message):
        name, module = renamed[1] or renamed[4], renamed[2] or renamed[3]
        return (
            f"model file '{artifact.uri}' needs '{name}' of the module '{module}', which the "
            "installed version lacks; install what the model was trained with"
        )
    other = _other_format(artifact, content)
    remedy = (
        "check that the file is complete and was written in this format"
        if other is None
        else f"it looks like a {other} file: write `format: {other}`, or check that it is complete"
    )
    return (
        f"model file '{artifact.uri}' cannot be loaded as {artifact.format}: {type(failure).__name__}: "
        f"{message}; {remedy}"
    )


def _absent_part(failure: Exception) -> str | None:
    """The part of scikit-learn that a file names and this release no longer has."""
    if isinstance(failure, ModuleNotFoundError) and failure.name is not None:
        # Its compiled modules of old have names without a package, `_loss` for one.
        is_own = failure.name.startswith("sklearn.") or failure.name in _OLD_MODULES
        return f"module '{failure.name}'" if is_own else None
    found = re.search(r"attribute '?(\w+)'? (?:on|from|of) .*?(sklearn[\w.]*)", str(failure))
    return f"'{found[1]}' in {found[2]}" if found else None


def _running_sklearn() -> str:
    import sklearn

    return str(sklearn.__version__)


def _other_format(artifact: ArtifactConfig, content: bytes) -> str | None:
    """The format in which a file that cannot be loaded seems to be written."""
    if (native := format_of(content)) in NATIVE_FORMATS:
        found = native
    elif content.startswith(b"PK\x03\x04"):
        found = "skops"
    elif content.startswith(COMPRESSED) or b"joblib.numpy_pickle" in content:
        found = "joblib"
    elif content.startswith(b"\x80"):
        found = "joblib" if artifact.format == "skops" else "pickle"
    else:
        return None
    return None if found == artifact.format or (found, artifact.format) == ("pickle", "joblib") else found


def _refuse_other_version(artifact: ArtifactConfig, caught: list[warnings.WarningMessage]) -> None:
    """A model of another major.minor release may predict otherwise: scikit-learn promises nothing there."""
    for warning in caught:
        # InconsistentVersionWarning says it; other warnings of loading are the libraries' own affair.
        saved = getattr(warning.message, "original_sklearn_version", None)
        if saved is None:
            continue
        running = warning.message.current_sklearn_version  # type: ignore[union-attr]
        if saved.split(".")[:2] != running.split(".")[:2]:
            raise ArtifactError(
                f"model file '{artifact.uri}' was saved with scikit-learn {saved}, but version {running} "
                f"runs here: predictions may differ without an error; train it again "
                f"with {running}, or {_own_libraries(artifact, f'scikit-learn=={saved}', _python_for(saved))}"
            )


def _own_libraries(artifact: ArtifactConfig, wanted: str, python: str = _PYTHON) -> str:
    """What to do to run a model with other libraries than those that are here."""
    if artifact.environment is not None:
        return f"put {wanted} into '{artifact.environment.requirements}' and run: mlops environments sync"
    return (
        f"give it libraries of its own: put {wanted}, with what else it needs, into a requirements file, "
        f'write `environment: {{requirements: FILE, python: "{python}"}}` under `model:`, and run: mlops '
        f"environments sync (mlops init: --requirements FILE --python {python})"
    )


def _python_for(release: str) -> str:
    """A Python for which there are wheels of this release of scikit-learn."""
    numbers = [int(part) for part in release.split(".")[:2] if part.isdigit()]
    return "3.10" if numbers < _FIRST_ON_PYTHON else _PYTHON
