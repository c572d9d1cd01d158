"""Loads drivers, and turns what they raise into `DatabaseError` in their own words, without secrets."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.errors import DatabaseError, DriverMissing


def load_driver(spec: ConnectionSpec, module: str, package: str) -> Any:
    """Import a driver's module. Raises `DriverMissing` with the package to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DriverMissing(
            f"connection '{spec.conn_id}': the driver for type {spec.conn_type} is not installed; "
            f"install it: pip install {package}"
        ) from error


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
