"""A model's signature in a dispatch: `collect` compares columns with it, `infer` asks golden rows again."""

from __future__ import annotations

import logging
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_plugin.errors import ArtifactChanged, FeatureError
from mlops_plugin.formats.signature.signature import Signature, read_signature

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.formats.runtime import Runtime


_log = logging.getLogger(__name__)


def require_signature_fits(model: ModelConfig, rows: pa.Schema) -> Signature | None:
    """The model's signature, None if it has none; `rows` is the schema that the model is asked with.

    Raises `FeatureError` if a column is of another kind than in training, with the cast that the query needs.
    """
    from mlops_plugin.formats.signature.signed_input import check_query

    signature = read_signature(model.model)
    if signature is None:
        _warn_of_unsigned_version(model)
    else:
        try:
            check_query(signature, rows)
        except FeatureError as error:
            raise FeatureError(f"models.{model.name}.source: {error}") from error
    return signature


def _warn_of_unsigned_version(model: ModelConfig) -> None:
    """A version in a registry goes without what other versions of the model are held to."""
    if not model.model.has_version:
        return
    path = Path(model.model.signature_uri)
    name, _, _ = path.name.rpartition("-")
    if any(path.parent.glob(f"{escape(name)}-*")):
        _log.warning(
            "models.%s.model: this version has no signature ('%s'), as other versions have; write it with: "
            "mlops sign %s",
            model.name,
            path,
            model.name,
        )


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
