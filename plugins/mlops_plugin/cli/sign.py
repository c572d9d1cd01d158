"""`mlops sign`: writes a configured model's signature and says what to do with it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.pipeline.deployment import Deployment


def sign_in_terminal(
    model: ModelConfig, deployment: Deployment, file: Path | None, query: str | None, *, synthetic: bool
) -> None:
    """Sign with the rows of a file, or else of a query (None: the model's own); print what was written."""
    from mlops_plugin.formats.signature.comparison import not_compared
    from mlops_plugin.orchestration.rendering import render
    from mlops_plugin.pipeline.signing import sign_with_file, sign_with_query

    if file is not None:
        must_be_confined = deployment.requires_confinement
        signed = sign_with_file(model, file, must_be_confined=must_be_confined, synthetic=synthetic)
    else:
        rendered = render(query or model.source.query, model, moment=datetime.now(UTC))
        signed = sign_with_query(model, deployment, rendered, synthetic=synthetic)
    signature = signed.signature
    kind = "made-up" if synthetic else "golden"
    print(f"{signature.uri}: {len(signature.golden.rows)} {kind} rows, chosen from {signed.rows:,}")
    for line in not_compared(signature):
        print(f"note: {line}")
    if model.model.is_registered and "@" in model.model.uri:
        return  # each version that the alias may stand for has a signature of its own
    print(f"to pin it, write in config.yaml: signature_sha256: {signature.sha256}")
