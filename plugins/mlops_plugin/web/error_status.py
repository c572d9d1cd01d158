"""Which HTTP status an error of ours is, and how the description of the API puts it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from mlops_plugin.errors import (
    ArtifactError,
    CaseError,
    ConnectionUnusable,
    ContractError,
    DatabaseError,
    DriverMissing,
    EventStoreError,
    FeatureError,
    MlopsError,
    ServingBusy,
    ServingError,
    UnknownModel,
)


class Refusal(BaseModel):
    """Why a request was refused."""

    detail: str


_REFUSALS = {
    400: "The body is not JSON. In plain text: the request is malformed, or its address exceeds 64 KB.",
    401: "The user is not signed in.",
    403: "The user's role lacks a permission, or the request comes from another site.",
    404: "Nothing has that name, or the user may not read the DAG of its model.",
    413: "The body is too large.",
    422: "A parameter or the body is invalid.",
    429: "The server is busy with other requests of this kind; `Retry-After` is the time to wait.",
    500: "The configuration is invalid, or the server failed.",
    503: "A database, a connection or a model's process is not available.",
}
_STATUS: tuple[tuple[type[MlopsError], int], ...] = (
    (UnknownModel, 404),
    # What was asked for: another request may do better.
    (CaseError, 422),
    (ContractError, 422),
    (FeatureError, 422),
    # What a request needs is away: the same request may do better later.
    (DatabaseError, 503),
    (EventStoreError, 503),
    (ConnectionUnusable, 503),
    (DriverMissing, 503),
    (ServingBusy, 429),
    (ServingError, 503),
    (ArtifactError, 503),
)


def status_of(error: MlopsError) -> int:
    """4xx if the request is invalid or one too many, 503 if a database or model is away, 500 for a wrong
    configuration."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def headers_of(error: MlopsError | None) -> dict[str, str]:
    """The headers that go with the status."""
    return {"Retry-After": str(error.retry_after_s)} if isinstance(error, ServingBusy) else {}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can refuse a request with these statuses."""
    answers: dict[int | str, dict[str, Any]] = {
        status: {"model": Refusal, "description": _REFUSALS[status]} for status in statuses
    }
    if 400 in answers:  # the HTTP server before the app answers in its own way
        answers[400]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return answers
