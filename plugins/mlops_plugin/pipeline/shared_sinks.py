"""Models that write one table through connections of different ids; `mlops check --connect` asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.config.shared_tables import SinkPlace, find_sharing
from mlops_plugin.connections import ConnectionSpec, database_file, get_connection
from mlops_plugin.databases.engines.registry import ANSI
from mlops_plugin.databases.opening import expected_engine
from mlops_plugin.errors import MlopsError
from mlops_plugin.pipeline.inspection import Finding

_THIS_HOST = frozenset({"", "localhost", "127.0.0.1", "::1"})
# Names of attributes in ODBC connection strings; drivers differ.
_ODBC_NAMES = {
    "host": ("server", "servername", "host", "hostname"),
    "port": ("port",),
    "database": ("database", "db", "dbq"),
}


def find_shared_sinks(models: Iterable[ModelConfig], home: Path) -> Iterator[tuple[ModelConfig, Finding]]:
    """Each model whose table others write as well, unless all of them only append to it."""
    for model, sharing in find_sharing(models, lambda model: place_of(model, home)):
        names = ", ".join(f"{other.name} (connection '{other.sink.connection}')" for other in sharing)
        problem = (
            f"'{model.sink.table}' is also written by {names}, which leads to the same database as "
            f"connection '{model.sink.connection}', and modes upsert and replace overwrite the others' rows; "
            "give each model its own table, or let all of them append"
        )
        yield model, Finding(f"models.{model.name}.sink.table", "other models' tables", problem)


def place_of(model: ModelConfig, home: Path) -> SinkPlace:
    """Where the model's sink lies, as far as its connection tells."""
    try:
        spec = get_connection(model.sink.connection)
        return _place(spec, home)
    except MlopsError:  # it has a finding of its own
        return SinkPlace(model.sink.connection)


def _place(spec: ConnectionSpec, home: Path) -> SinkPlace:
    engine = expected_engine(spec) or ANSI
    is_odbc = spec.conn_type.lower() == "odbc"
    attributes = _odbc_attributes(spec) if is_odbc else {}
    host, port, database = (
        str(own or next((attributes[key] for key in _ODBC_NAMES[part] if key in attributes), ""))
        for part, own in (("host", spec.host), ("port", spec.port), ("database", spec.schema))
    )
    if engine.is_file and not is_odbc:
        file = database_file(spec, home)
        return SinkPlace(spec.conn_id if file is None else (engine.name, file.resolve()), "main")
    if not (host or database):
        return SinkPlace(("data source", attributes.get("dsn", spec.conn_id)))
    if engine.is_file:
        return SinkPlace((engine.name, (home / database).resolve()), "main")
    server = (engine.name, _host(host), port or str(engine.default_port))
    return SinkPlace(server, database) if engine.databases_are_schemas else SinkPlace((*server, database))


def _host(host: str) -> str:
    name = host.casefold().strip("[]").rstrip(".")
    return "localhost" if name in _THIS_HOST else name


def _odbc_attributes(spec: ConnectionSpec) -> dict[str, str]:
    extra = {key.lower(): str(value) for key, value in spec.extra.items()}
    parts = (part.partition("=") for part in extra.pop("connection_string", "").split(";"))
    return {**{key.strip().lower(): value.strip(" {}") for key, _, value in parts}, **extra}
