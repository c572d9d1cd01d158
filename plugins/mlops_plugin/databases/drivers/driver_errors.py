"""Turns what drivers raise into `DatabaseError`, in the driver's own words and without secrets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.errors import DatabaseError


@contextmanager
def driver_errors(spec: ConnectionSpec, doing: str, *kinds: type[Exception]) -> Iterator[None]:
    """Raise an error of one of `kinds` as a `DatabaseError` of this connection."""
    try:
        yield
    except kinds as error:
        raise database_error(spec, doing, error) from _without_secrets(spec, error)


def database_error(spec: ConnectionSpec, doing: str, error: Exception) -> DatabaseError:
    """What `error` says, redacted and without blank lines."""
    lines = (line.strip() for line in spec.redact(str(error)).splitlines())
    return DatabaseError(
        spec.conn_id, doing, "\n".join(line for line in lines if line) or type(error).__name__
    )


def _without_secrets(spec: ConnectionSpec, error: Exception) -> Exception | None:
    # A traceback prints the cause as well: one that quotes a secret must not be there.
    return error if spec.redact(str(error)) == str(error) else None
