"""Loads a model that MLflow has logged, by the loader of the format that its file is written in."""

from __future__ import annotations

import hashlib
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from mlops_plugin.config.format_names import NATIVE_FORMATS
from mlops_plugin.errors import ArtifactError
from mlops_plugin.formats.artifact import Verified, format_of, require_pinned
from mlops_plugin.formats.mlflow_models.logged_model import Flavour, LoggedModel
from mlops_plugin.formats.mlflow_models.model_files import DESCRIPTION, open_files, read_description
from mlops_plugin.formats.mlflow_models.trained_input import TrainedInput
from mlops_plugin.formats.runtime import LOADERS

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.model_input import SignedSpec
    from mlops_plugin.formats.scikit import ScikitRuntime

_PICKLED = ("pickle", "joblib")


def load_mlflow(
    artifact: ArtifactConfig, features: tuple[str, ...] | None, signed: SignedSpec | None = None
) -> ScikitRuntime:
    """Load the model of a folder or an archive; a pickled one must be pinned by `sha256:`.

    Raises `ArtifactError` for a folder that is incomplete, forged or no model, `FeatureError` if the features
    are unknown or contradict MLflow's signature.
    """
    logged = getattr(artifact, "logged", None)  # in an environment of the model's own, which has no YAML
    read = ReadModel(artifact.uri, None if logged is None else LoggedModel.of_data(logged))
    require_pinned(artifact, read.sha256, "model")
    if read.runs_code and not artifact.pins:
        raise ArtifactError(
            f"model '{artifact.uri}' has a pickled file, {read.flavour.path}, which runs code when it is "
            "loaded: "
            f"pin the model with `sha256: {read.sha256}` if you know where it comes from, or log it with "
            "serialization_format='skops'"
        )
    names, trained = features, None
    if read.input is not None:
        names = read.input.features(artifact.uri, features)
        trained = read.input.by_name(artifact.uri, names)
    inner = _inner(artifact, read)
    verified = Verified(read.content, read.sha256, trained)
    runtime: ScikitRuntime = resolve_name(LOADERS[inner.format])(inner, names, signed, verified)
    return runtime


class ReadModel:
    """A model's files, read once: the bytes that are hashed are the bytes that are loaded.

    `described`: what the caller has read of the description; None: it is read here. Raises `ArtifactError`.
    """

    def __init__(self, uri: str, described: LoggedModel | None = None) -> None:
        files = open_files(uri)
        description = read_description(uri, files)
        if described is None:
            from mlops_plugin.formats.mlflow_models.mlmodel import describe

            described = describe(uri, description, files.sizes)
        elif hashlib.sha256(description).hexdigest() != described.sha256:
            raise ArtifactError(f"model '{uri}': its {DESCRIPTION} changed while it was read; try again")
        self.flavour: Flavour = described.flavour
        self.input: TrainedInput | None = described.input
        self.content = files.read(self.flavour.path)
        self.sha256 = files.sha256({DESCRIPTION: description, self.flavour.path: self.content})

    @property
    def format(self) -> str:
        """Ours. MLflow keeps LightGBM's Boosters as texts, and saves its wrappers with skops or pickle."""
        if self.flavour.name != "lightgbm":
            return self.flavour.format
        found = format_of(self.content)
        return found if found in ("lightgbm", "skops") else "pickle"

    @property
    def runs_code(self) -> bool:
        """Whether loading the file can run code that is in it."""
        return self.format in _PICKLED


def _inner(artifact: ArtifactConfig, read: ReadModel) -> ArtifactConfig:
    """The file in the folder as an artifact of its own."""
    if artifact.trusted and read.format != "skops":
        raise ArtifactError(f"model '{artifact.uri}' is no skops file; remove `model: {{trusted: ...}}`")
    if artifact.classes and read.format not in NATIVE_FORMATS:
        raise ArtifactError(f"model '{artifact.uri}' holds its labels; remove `model: {{classes: ...}}`")
    if artifact.container and read.format in NATIVE_FORMATS:
        raise ArtifactError(
            f"model '{artifact.uri}' is read by {read.flavour.name}, which has one container; remove `model: "
            "{container: ...}`"
        )
    # Not a copy of the section: in a process of its own, a model knows no pydantic.
    kept = ("sha256", "pins", "trusted", "container", "dtypes", "classes", "environment", "may_be_folder")
    found = SimpleNamespace(**{name: getattr(artifact, name) for name in kept})
    found.format, found.uri = read.format, f"{artifact.uri.rstrip('/')}/{read.flavour.path}"
    return cast("ArtifactConfig", found)
