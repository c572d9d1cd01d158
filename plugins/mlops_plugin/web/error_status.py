"""Which HTTP status an error of ours is."""

from __future__ import annotations

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
    ServingError,
    UnknownModel,
)

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
    (ServingError, 503),
    (ArtifactError, 503),
)


def status_of(error: MlopsError) -> int:
    """4xx where the request is wrong, 503 where a database or a model is away; 500 for what only a change
    of the configuration mends."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
