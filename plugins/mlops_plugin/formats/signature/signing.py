"""Makes a signature where the model is loaded: in its own process, or in that of `mlops sign`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlops_plugin.errors import SignatureError
from mlops_plugin.formats.runtime import Runtime, load_signed
from mlops_plugin.formats.signature.signature import parse_signature
from mlops_plugin.formats.signature.signature_writer import dump_signature, make_signature

if TYPE_CHECKING:
    import pandas as pd

    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.model_input import InputSpec
    from mlops_plugin.formats.scikit import ScikitRuntime


@dataclass(frozen=True)
class TrainingRows:
    """What a model is signed with. `frame`: the same rows as pandas has read them from a file."""

    batch: pa.RecordBatch
    frame: pd.DataFrame | None = None


def sign(
    artifact: ArtifactConfig, runtime: ScikitRuntime, rows: TrainingRows, *, synthetic: bool
) -> tuple[bytes, Runtime]:
    """A signature as its file holds it, without the artifact's hash, and the model loaded again by it.

    `runtime` is the model by the rules for one without a signature. Raises `SignatureError` if it cannot be
    signed, and `FeatureError` for rows that it refuses.
    """
    try:
        content = make_signature(
            runtime.model, _table(runtime, rows), names=runtime.features, synthetic=synthetic
        )
    except (TypeError, ValueError) as error:
        raise SignatureError(f"no signature can be written: {error}") from error
    written = dump_signature(content)
    again = load_signed(artifact, runtime.features, parse_signature(artifact.signature_uri, written))
    return written, again


def _table(runtime: ScikitRuntime, rows: TrainingRows) -> Any:
    """The rows in the container and types of training, as far as those are known."""
    spec, frame = runtime.spec_for(rows.batch), rows.frame
    # A file has the texts and numbers of categories.
    if frame is None or any(column.dtype == "category" for column in spec.columns):
        return _as_in_training(spec, rows.batch)
    match spec.container:
        case "matrix":
            return frame.to_numpy()
        case "series":
            return frame.iloc[:, 0]
        case "documents":
            return frame.iloc[:, 0].tolist()
    return frame


def _as_in_training(spec: InputSpec, rows: pa.RecordBatch) -> Any:
    """The rows as pandas would have read them all at once: integers with NULLs among them are float64."""
    columns = []
    for column in spec.columns:
        is_split = column.splits and rows.column(column.name).null_count > 0
        becomes = "object" if column.dtype == "bool" else "float64"
        columns.append(replace(column, dtype=becomes) if is_split else column)
    return replace(spec, columns=tuple(columns)).build(rows)
