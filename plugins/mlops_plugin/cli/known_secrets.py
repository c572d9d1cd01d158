"""Learns the secrets of a deployment, so that texts of earlier versions can be cleaned of them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlops_plugin.connections import get_connection, learn_variable
from mlops_plugin.errors import ConnectionUnusable

if TYPE_CHECKING:
    from mlops_plugin.config.schema import Config

_CONNECTION_IN_ENVIRONMENT = "AIRFLOW_CONN_"
_VARIABLE_IN_ENVIRONMENT = "AIRFLOW_VAR_"
# conn.name.password, conn.get('name'), var.value.name, var.json.get("name")
_IN_TEMPLATE = re.compile(r"\b(conn|var\.value|var\.json)\.(?:get\(\s*['\"]([^'\"]+)['\"]|(\w+))")


def learn_secrets_of(config: Config) -> list[str]:
    """Read the connections and Variables that the configuration, its queries and the environment name.

    Returns the names of those that could not be read: their secrets stay unknown.
    """
    texts = list(_texts(config.model_dump(mode="json")))
    named = [(kind, got or plain) for text in texts for kind, got, plain in _IN_TEMPLATE.findall(text)]
    connections = {name for kind, name in named if kind == "conn"} | set(_connections(config.model_dump()))
    variables = {name for kind, name in named if kind != "conn"}
    connections |= _in_environment(_CONNECTION_IN_ENVIRONMENT)
    variables |= _in_environment(_VARIABLE_IN_ENVIRONMENT)
    unread = [name for name in sorted(connections) if not _is_connection_read(name)]
    return unread + [name for name in sorted(variables) if not learn_variable(name)]


def _is_connection_read(name: str) -> bool:
    with contextlib.suppress(ConnectionUnusable):
        get_connection(name)
        return True
    return False


def _in_environment(start: str) -> set[str]:
    return {name.removeprefix(start).lower() for name in os.environ if name.startswith(start)}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _connections(value: Any) -> Iterator[str]:
    """Every `connection:` of the configuration."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name == "connection" and isinstance(item, str):
                yield item
            yield from _connections(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _connections(item)
