"""Writes an Airflow connection of type odbc as an ODBC connection string, the way Airflow's OdbcHook does."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.errors import ConnectionUnusable

# Keys of extra that are for the hook or for us; every other key is an attribute of the connection string.
_NOT_ATTRIBUTES = frozenset(
    {"driver", "dsn", "connection_string", "connect_kwargs", "sqlalchemy_scheme", "placeholder", "dialect"}
)
_GIVEN_DRIVER = re.compile(r"(?:^|;)\s*driver\s*=\s*(\{[^}]*\}|[^;]*)", re.IGNORECASE)


def connection_string(spec: ConnectionSpec) -> str:
    """The string to connect with; ends with a semicolon and holds the password.

    Raises `ConnectionUnusable` if the connection names neither driver nor data source.
    """
    extra = _lower(spec)
    given = str(extra.get("connection_string") or "").strip().rstrip(";")
    if not (given or extra.get("driver") or extra.get("dsn")):
        raise ConnectionUnusable(
            f"connection '{spec.conn_id}' names no ODBC driver; add one to its extra, "
            'e.g. {"driver": "MariaDB Unicode"}, or a data source: {"dsn": "..."}'
        )
    attributes = [f"{key}={_value(value)}" for key, value in _attributes(spec)]
    return "".join(f"{part};" for part in [given, *attributes] if part)


def driver_name(spec: ConnectionSpec) -> str | None:
    """The driver that the connection asks for, without braces; None if it names a data source only."""
    extra = _lower(spec)
    if extra.get("driver"):
        return str(extra["driver"]).strip(" {}")
    match = _GIVEN_DRIVER.search(str(extra.get("connection_string") or ""))
    return match[1].strip(" {}") if match else None


def _lower(spec: ConnectionSpec) -> dict[str, object]:
    return {key.lower(): value for key, value in spec.extra.items()}


def _attributes(spec: ConnectionSpec) -> Iterator[tuple[str, object]]:
    extra = _lower(spec)
    if extra.get("driver"):
        yield "DRIVER", "{" + str(extra["driver"]).strip(" {}") + "}"
    if extra.get("dsn"):
        yield "DSN", str(extra["dsn"]).strip()
    fields = {
        "SERVER": spec.host,
        "DATABASE": spec.schema,
        "UID": spec.login,
        "PWD": spec.password,
        "PORT": spec.port,
    }
    yield from ((key, value) for key, value in fields.items() if value is not None)
    for key, value in spec.extra.items():
        if key.lower() not in _NOT_ATTRIBUTES:
            yield key, value


def _value(value: object) -> str:
    text = str(value)
    if re.fullmatch(r"\{[^}]*\}", text):
        return text  # the user has put braces around it
    # Not for a space within: SQLite's driver takes braces for a part of the file's name.
    if text != text.strip() or any(character in text for character in ";{}[]()?*=!@"):
        return "{" + text.replace("}", "}}") + "}"
    return text
