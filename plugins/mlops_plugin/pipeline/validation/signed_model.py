"""A model's signature in a dispatch: `collect` compares columns with it, `infer` asks golden rows again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_plugin.errors import ArtifactChanged, FeatureError
from mlops_plugin.formats.signature.signature import Signature, read_signature

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.formats.runtime import Runtime


def require_signature_fits(model: ModelConfig, rows: pa.Schema) -> Signature | None:
    """The model's signature, None if it has none; `rows` is the schema that the model is asked with.

    Raises `FeatureError` if a column is of another kind than in training, with the cast that the query needs.
    """
    from mlops_plugin.formats.signature.signed_input import check_query

    signature = read_signature(model.model)
    if signature is not None:
        try:
            check_query(signature, rows)
        except FeatureError as error:
            raise FeatureError(f"models.{model.name}.source: {error}") from error
    return signature


def require_same_answers(model: ModelConfig, runtime: Runtime, rows: pa.Schema | None = None) -> None:
    """Ask the golden rows again, in the types of `rows`, or else in the usual ones.

    Raises `GoldenRowMismatch` for another answer, and `ArtifactChanged` if the signature is no longer the
    one by which the model was loaded.
    """
    signature = read_signature(model.model)
    if (None if signature is None else signature.sha256) != runtime.signature_sha256:
        raise ArtifactChanged(
            f"models.{model.name}.model: the signature beside {model.model.uri} changed while the model "
            "answered its golden rows; try again"
        )
    if signature is not None:
        from mlops_plugin.formats.signature.comparison import verify

        if rows is not None:
            runtime.check(rows)
        verify(runtime, signature, rows, tolerance=model.model.tolerance)
