"""Errors of a model's process as the same errors in its caller; `process` raises them."""

from __future__ import annotations

import re

from mlops_plugin.errors import (
    AnswersOfNeighbours,
    ArtifactChanged,
    ArtifactError,
    DriverMissing,
    FeatureError,
    GoldenRowMismatch,
    InputUndecided,
    MlopsError,
    ServingError,
    SignatureError,
    UntrustedTypes,
)
from mlops_plugin.workers.messages import Failed
from mlops_plugin.workers.process_limits import Limits

# Errors of loading and predicting that keep their type on the way to the caller.
_KEPT: dict[str, type[MlopsError]] = {
    kept.__name__: kept
    for kept in (
        AnswersOfNeighbours,
        ArtifactChanged,
        ArtifactError,
        DriverMissing,
        FeatureError,
        GoldenRowMismatch,
        InputUndecided,
        ServingError,
        SignatureError,
        UntrustedTypes,
    )
}
_MOST_CHARACTERS = 50_000  # of what a process says that went wrong
_DENIED = re.compile("PermissionError|Permission denied|Operation not permitted")


class ModelTraceback(Exception):
    """What the model raised in its process, as it was printed there."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def raised(model: str, failed: Failed, limits: Limits) -> MlopsError:
    """What the process says that went wrong, as an error to raise here."""
    # It may be the model's own text: it goes to logs, terminals and the event store.
    failed = Failed(_printable(failed.error), _printable(failed.message), _printable(failed.cause))
    error = _error(model, failed, limits)
    if failed.cause:
        error.__cause__ = ModelTraceback(failed.cause)
    return error


def _printable(text: str) -> str:
    """The text without what could make a terminal or a log show something else."""
    shown = "".join(char if char.isprintable() or char in "\n\t" else " " for char in text[:_MOST_CHARACTERS])
    return shown if len(text) <= _MOST_CHARACTERS else f"{shown}…"


def _error(model: str, failed: Failed, limits: Limits) -> MlopsError:
    kind, message = failed.error, failed.message
    advice = limits.needs_more if _DENIED.search(message) else ""
    if kind in _KEPT:
        return _KEPT[kind](f"{message}{advice}")
    # numpy has a MemoryError of its own, and a runtime may have wrapped any of them.
    if "MemoryError" in kind and limits.memory_mb is not None:
        return ServingError(f"models.{model}: the model {limits.too_large}")
    reason = next((f": {line.strip()}" for line in message.splitlines() if line.strip()), "")
    return ServingError(f"models.{model}: the model raised {kind}{reason}{advice}")
