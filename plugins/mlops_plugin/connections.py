"""The only reader of Airflow connections; everyone else receives a `ConnectionSpec`.

Beside them stand Airflow's masking of secrets and the two settings that the Monitor and the pages need.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_plugin.errors import ConnectionUnusable
from mlops_plugin.masking import learn, secrets_in, without

# Airflow's SDK looks for connections in the metadata database only in a process that says it is a server.
PROCESS_CONTEXT = "_AIRFLOW_PROCESS_CONTEXT"
SERVER = "server"


@dataclass(frozen=True)
class ConnectionSpec:
    """The values of an Airflow connection, without Airflow. `repr` shows no secret."""

    conn_id: str
    conn_type: str  # odbc, mysql, postgres, sqlite, duckdb
    host: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None  # database name
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Its password, and what its extra says is secret."""
        return (*([self.password] if self.password else []), *secrets_in(self.extra))

    def redact(self, text: str) -> str:
        """`text` (a driver's message) without this connection's secrets, and without all that are known."""
        return without(self.secrets, text)


def airflow_home() -> Path:
    """The folder that relative paths start from, by Airflow's own rule."""
    return Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()


def database_file(spec: ConnectionSpec, home: Path | None = None) -> Path | None:
    """The file of a database that is one (SQLite, DuckDB); None if it is kept in memory.

    Airflow reads a URI's path as host, schema or both. A relative path starts from `home`, AIRFLOW_HOME by
    default: a daemon's working folder may be anything. Only a file that is in the working folder and not
    there is taken from the working folder. Raises `ConnectionUnusable` without a path.
    """
    path = "/".join(part for part in (spec.host, spec.schema) if part)
    if not path:
        raise ConnectionUnusable(
            f"connection '{spec.conn_id}' names no file; write its path as the host, or as a URI with "
            f"four slashes: {spec.conn_type}:////folder/file.db"
        )
    if path == ":memory:":
        return None
    at_home = (home or airflow_home()) / path
    if not at_home.exists() and Path(path).is_file():
        return Path(path).absolute()
    return at_home


def get_connection(conn_id: str) -> ConnectionSpec:
    """Read an Airflow connection; raises `ConnectionUnusable` if there is none of that name."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        if variable in os.environ:  # Airflow also reports "not defined" for what it cannot parse
            raise _malformed(conn_id) from None
        _require_metadata_database(conn_id)
        raise ConnectionUnusable(
            f"there is no Airflow connection '{conn_id}'; add it under Admin > Connections, with "
            f"'airflow connections add {conn_id} ...' or as the environment variable {variable}"
        ) from error
    except ValueError:
        raise _malformed(conn_id) from None  # the parser's message may quote the secret that it failed on
    try:
        extra = connection.extra_dejson
    except ValueError:
        extra = None
    if not isinstance(extra, Mapping):
        raise ConnectionUnusable(
            f"connection '{conn_id}': extra is not a JSON object; write e.g. "
            '{"driver": "MariaDB Unicode"}'
        )
    spec = ConnectionSpec(
        conn_id=conn_id,
        conn_type=connection.conn_type or "",
        host=connection.host or None,
        port=connection.port,
        login=connection.login or None,
        password=connection.password or None,
        schema=connection.schema or None,
        extra=dict(extra),
    )
    learn(spec.secrets)
    return spec


def _require_metadata_database(conn_id: str) -> None:
    """Raise `ConnectionUnusable` if the metadata database fails: Airflow then says "not defined"."""
    if os.environ.get(PROCESS_CONTEXT) != SERVER:
        return
    from airflow.secrets.metastore import MetastoreBackend
    from sqlalchemy.exc import SQLAlchemyError

    try:
        MetastoreBackend().get_connection(conn_id)
    except SQLAlchemyError as error:
        reason = str(error.__cause__ or error).strip()
        raise ConnectionUnusable(
            f"connection '{conn_id}' cannot be looked up: Airflow's metadata database fails: {reason}"
        ) from None


class WatchedAccessor:
    """Airflow's `conn`, `var.value` or `var.json` of a template; the secrets that it hands out become known.

    Airflow's masker learns them too, but not the short ones, and of an extra not its parts.
    """

    def __init__(self, accessor: Any) -> None:
        self._accessor = accessor

    def __getattr__(self, name: str) -> Any:
        return self._learned(name, getattr(self._accessor, name))

    def get(self, name: str, *default: Any, **named_default: Any) -> Any:
        """The same, with a default."""
        return self._learned(name, self._accessor.get(name, *default, **named_default))

    def _learned(self, name: str, found: Any) -> Any:
        if hasattr(found, "extra") and hasattr(found, "password"):  # a connection
            learn(secrets_in({"password": found.password}))
            learn(secrets_in(found.extra))
        else:
            learn(secrets_in({name: found}))
        return found


def learn_variable(name: str) -> bool:
    """Make known what is secret in an Airflow Variable; False if there is none of that name."""
    from airflow.sdk import Variable
    from airflow.sdk.exceptions import AirflowRuntimeError

    try:
        value = Variable.get(name, default=None)
    except AirflowRuntimeError:
        return False
    learn(secrets_in({name: value}))
    return value is not None


def watched_secrets(context: Mapping[str, Any]) -> dict[str, Any]:
    """What takes the place of `conn` and `var` among the names of a template.

    What the run was started with becomes known at once: a person may have typed a password there.
    """
    learn(secrets_in(dict(context.get("params") or {})))
    learn(secrets_in(getattr(context.get("dag_run"), "conf", None) or {}))
    variables = {kind: WatchedAccessor(accessor) for kind, accessor in context["var"].items()}
    return {"conn": WatchedAccessor(context["conn"]), "var": variables}


def airflow_port() -> int:
    """The port of Airflow's own API server, `[api] port`."""
    from airflow.sdk.configuration import conf

    return int(conf.getint("api", "port"))


def airflow_base_url() -> str:
    """Where users reach Airflow, `[api] base_url`, without a slash at its end; "" if it is not set."""
    from airflow.sdk.configuration import conf

    return str(conf.get("api", "base_url", fallback="")).rstrip("/")


def _malformed(conn_id: str) -> ConnectionUnusable:
    return ConnectionUnusable(
        f"the Airflow connection '{conn_id}' cannot be read: its URI or JSON is not well-formed; percent-"
        "encode special characters in a URI (e.g. '@' as %40), or write it as JSON"
    )
