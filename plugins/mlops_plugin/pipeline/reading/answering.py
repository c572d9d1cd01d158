"""What decides a model's answer about a row: `skip_predicted` leaves out rows with an answer of the same."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.environments.location import Environment


def answered_by(model: ModelConfig, artifact_sha256: str, input_sha256: str | None) -> str:
    """A hash of artifact, own libraries, settings of input and classes, and what is imputed or made a number.

    `input_sha256`: of what a signature says of the input; its golden rows change no answer. The bounds of a
    baseline are not part of it: where they decide what is imputed, `docs/incremental.md` says so.
    Raises `EnvironmentUnusable` if the file of the model's own libraries cannot be read.
    """
    parts = [artifact_sha256, *beside_artifact(model, input_sha256)]
    parts.append(model.model_dump_json(include={"features"}))
    parts.append(model.model.model_dump_json(include={"container", "dtypes"}))
    rules: dict[str, Any] = {} if model.input is None else dict(model.input.columns)
    for name, rule in sorted(rules.items()):
        if rule.on_violation == "impute":
            parts.append(f"{name}: {rule.model_dump_json()}")
        elif rule.type is not None:  # texts become numbers
            parts.append(f"{name}: {rule.model_dump_json(include={'type'})}")
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def beside_artifact(model: ModelConfig, input_sha256: str | None) -> list[str]:
    """What beside the artifact may change answers: a signature, classes, and libraries of the model's own."""
    parts = [] if input_sha256 is None else [f"input {input_sha256}"]
    if model.model.classes is not None:
        parts.append(model.model.model_dump_json(include={"classes"}))
    if (own := Environment.of(model)) is not None:
        # Not its key, which is another one on machines of another kind.
        parts += [own.python_version, hashlib.sha256(own.requirements.content).hexdigest()]
    return parts
