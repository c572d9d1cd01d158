"""Files in formats of other packages: each registers a function that makes a model of a file's bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_plugin.config.format_names import find_entry, package_of
from mlops_plugin.errors import ArtifactError, DriverMissing
from mlops_plugin.formats.artifact import read_verified, refuse_no_model
from mlops_plugin.formats.input_rules import StatedInput
from mlops_plugin.formats.scikit import ScikitRuntime

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint

    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.model_input import SignedSpec


def load_foreign(
    artifact: ArtifactConfig, features: tuple[str, ...] | None, signed: SignedSpec | None = None
) -> ScikitRuntime:
    """Load a file by the function that a package registers for its format; the file must be pinned.

    Raises `DriverMissing` if that package cannot be imported, `ArtifactError` for a file that is no model.
    """
    try:
        entry = find_entry(artifact.format)
    except ValueError as exc:  # uninstalled since the configuration was read
        raise DriverMissing(f"model file '{artifact.uri}': {exc}") from exc
    if not artifact.pins:
        raise ArtifactError(
            f"model file '{artifact.uri}' has the format {artifact.format}, which may run code when it is "
            "loaded: pin it with `sha256:` (from `sha256sum`, run where the model was trained)"
        )
    load = _loader(artifact, entry)
    content, sha256, _ = read_verified(artifact)
    refuse_no_model(artifact.uri, content)
    try:
        model = load(content)
    except MemoryError:
        raise
    except (Exception, SystemExit) as exc:
        raise ArtifactError(
            f"model file '{artifact.uri}' cannot be loaded as {artifact.format}: {_said(exc)}; check that "
            f"it is complete and was written in this format (the package {package_of(entry)} reads it)"
        ) from exc
    if isinstance(model, type) or not callable(getattr(model, "predict", None)):
        raise ArtifactError(
            f"the package {package_of(entry)} makes a {type(model).__module__}.{type(model).__qualname__} of "
            f"model file '{artifact.uri}', which has no `predict`; its function {entry.value} must return a "
            "model"
        )
    stated = StatedInput(artifact.container, artifact.dtypes)
    return ScikitRuntime(artifact.uri, sha256, model, features, stated=stated, signed=signed)


def _loader(artifact: ArtifactConfig, entry: EntryPoint) -> Callable[[bytes], Any]:
    registers = f"the package {package_of(entry)} registers {entry.value} for the format {artifact.format}"
    try:
        loader = entry.load()
    except (Exception, SystemExit) as exc:
        raise DriverMissing(
            f"{registers}, which cannot be imported here: {_said(exc)}; install the package again, with "
            "what it needs"
        ) from exc
    if isinstance(loader, type) or not callable(loader):
        raise ArtifactError(
            f"{registers}, which is a {type(loader).__name__}, not a function; the package must register "
            "a function that takes a file's bytes and returns a model"
        )
    return loader  # type: ignore[no-any-return]


def _said(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {str(exc).partition(chr(10))[0] or 'no reason given'}"
