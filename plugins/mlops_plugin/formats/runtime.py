"""What a loaded model can do, and the way from a file to it, for `infer`, the Showroom and `mlops check`.

Importing this module loads neither numpy nor scikit-learn: the `log` step only wants the file's hash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from mlops_plugin.formats.artifact import artifact_sha256
from mlops_plugin.formats.importing.collector import collector_resting
from mlops_plugin.formats.native_threads import wait_passively

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.model_input import SignedSpec
    from mlops_plugin.formats.signature.signature import Signature

__all__ = ["REFUSES_INFINITE", "REFUSES_NULL", "Runtime", "WorksAhead", "artifact_sha256", "load_runtime"]

# How a `FeatureError` of `predict` begins if the model refuses missing or infinite values.
REFUSES_NULL = "the model refuses NULL"
REFUSES_INFINITE = "the model refuses infinite numbers"


class Runtime(Protocol):
    """A model in memory, used by one thread at a time."""

    @property
    def artifact_sha256(self) -> str:
        """SHA-256 (64 hex digits) of the very bytes that were loaded."""

    @property
    def signature_sha256(self) -> str | None:
        """SHA-256 of the signature by which the model's table is built; None: by the rules for none."""

    @property
    def features(self) -> tuple[str, ...]:
        """The columns the model reads, in its own order."""

    @property
    def outputs(self) -> pa.Schema:
        """The columns that `predict` returns, also for no rows at all; certain after `learn_outputs`."""

    @property
    def libraries(self) -> Mapping[str, str]:
        """Versions of Python and of the libraries that answer, by their packages' names."""

    @property
    def packages(self) -> Mapping[str, str] | None:
        """All packages of the model's own environment, and Python; None: it uses what is installed here."""

    @property
    def undecided(self) -> tuple[str, ...]:
        """Columns of which nothing tells in which type training had them; known after `check`.

        Rows may still be answered, if no answer depends on it; else `predict` raises `InputUndecided`.
        """

    def learn_outputs(self, rows: pa.RecordBatch) -> bool:
        """Learn from some real rows with which columns the model answers; call it before `outputs`.

        Returns whether their types are certain now: answers that are all missing leave them open. Raises
        nothing of the rows: what the model has against them, `predict` raises.
        """

    def check(self, rows: pa.Schema) -> None:
        """Raise `FeatureError` if rows of this schema lack a feature or hold one of a wrong type."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """One prediction per row, in the rows' order; columns that are no feature are ignored.

        Raises `FeatureError` if the model refuses the rows, whatever it raises itself, and `ArtifactError` if
        its answer is not one for each row, or has another shape than before.
        """


@runtime_checkable
class WorksAhead(Protocol):
    """A runtime whose model can work while its caller does something else."""

    def ask_ahead(self, rows: pa.RecordBatch) -> None:
        """Begin with rows that `predict` is going to be asked about, in this order; these very rows."""


# From so many rows it is learned with which columns a model answers, and if their answers leave a type open,
# from at most that many.
SAMPLE_ROWS, LEARNED_ROWS = 16, 1000

Loader = Callable[["ArtifactConfig", "tuple[str, ...] | None", "SignedSpec | None"], Runtime]

# Resolved on use: a deployment needs only the libraries of the formats it serves.
LOADERS = {
    "skops": "mlops_plugin.formats.scikit_files:load_skops",
    "joblib": "mlops_plugin.formats.scikit_files:load_joblib",
    "pickle": "mlops_plugin.formats.scikit_files:load_pickle",
    "lightgbm": "mlops_plugin.formats.native.lightgbm_files:load_lightgbm",
    "xgboost": "mlops_plugin.formats.native.xgboost_files:load_xgboost",
    "onnx": "mlops_plugin.formats.native.onnx_files:load_onnx",
    "catboost": "mlops_plugin.formats.native.catboost_files:load_catboost",
    "mlflow": "mlops_plugin.formats.mlflow_models.loading:load_mlflow",
    "python": "mlops_plugin.formats.custom.python_code:load_python",
}
_FOREIGN_LOADER = "mlops_plugin.formats.custom.foreign_files:load_foreign"  # of formats of other packages


def load_runtime(artifact: ArtifactConfig, *, features: tuple[str, ...] | None) -> Runtime:
    """Load a model, and ask it its golden rows if it has a signature.

    `features` names its columns, in order, if neither the model nor its signature knows them. Raises
    `ArtifactError` for a file that is missing, altered, incompatible or no model, `GoldenRowMismatch` if the
    model answers otherwise than in training, `FeatureError` if the features are unknown, `DriverMissing` if a
    library for the file's storage is missing.
    """
    runtime, signature = load_unproven(artifact, features=features)
    if signature is not None:
        from mlops_plugin.formats.signature.comparison import verify

        verify(runtime, signature, tolerance=artifact.tolerance)
    return runtime


def load_unproven(
    artifact: ArtifactConfig, *, features: tuple[str, ...] | None
) -> tuple[Runtime, Signature | None]:
    """The same without asking its golden rows: for whoever asks them itself. With the signature, if any."""
    from mlops_plugin.formats.signature.signature import read_signature

    signature = read_signature(artifact)
    return load_signed(artifact, features, signature), signature


def load_signed(
    artifact: ArtifactConfig, features: tuple[str, ...] | None, signature: Signature | None
) -> Runtime:
    """Load a model that reads what this signature says, whatever lies beside its file; None: by the rules."""
    spec = None
    if signature is not None:
        from mlops_plugin.formats.model_input import SignedSpec
        from mlops_plugin.formats.signature.signed_input import input_spec, missing_in_golden_rows

        spec = SignedSpec(input_spec(signature), signature.sha256, missing_in_golden_rows(signature))
    wait_passively()
    with collector_resting():
        loader = cast(Loader, resolve_name(LOADERS.get(artifact.format, _FOREIGN_LOADER)))
        runtime = loader(artifact, features, spec)
    if signature is not None:
        from mlops_plugin.formats.signature.golden_rows import golden_batch
        from mlops_plugin.formats.signature.signature import require_made_for

        require_made_for(signature, runtime.artifact_sha256)
        runtime.learn_outputs(golden_batch(signature))
    return runtime
