"""Lets the `mlops` command read connections and Variables as Airflow's own processes do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_plugin.connections import PROCESS_CONTEXT, SERVER
from mlops_plugin.errors import ConfigError, Problem

_SQLITE = "sqlite:///"


@contextmanager
def stored_connections() -> Iterator[None]:
    """Look up connections in secrets backends, the environment and the metadata database, in this order.

    Only this process does, and only inside: `workers` hand no such variable on to a model's process. Without
    a metadata database, the first two serve.
    """
    if PROCESS_CONTEXT in os.environ or not has_metadata_database():
        yield
        return
    os.environ[PROCESS_CONTEXT] = SERVER
    try:
        yield
    finally:
        del os.environ[PROCESS_CONTEXT]


def has_metadata_database() -> bool:
    """Whether Airflow's settings name a database, and it is there if it is a file.

    Raises `ConfigError` if the settings cannot be read.
    """
    try:
        from airflow.sdk.configuration import conf

        address = conf.get("database", "sql_alchemy_conn", fallback=None)
    except Exception as error:  # a file that is no airflow.cfg, a command in it that fails, and more
        reason = str(error).partition("\n")[0]
        message = f"Airflow's settings cannot be used: {reason}; check this file and AIRFLOW__* variables"
        raise ConfigError([Problem(_settings_file(), None, "", message)]) from error
    if not address:
        return False
    # Opening a SQLite file that is not there would make an empty one.
    file = address.removeprefix(_SQLITE).partition("?")[0]
    return not address.startswith(_SQLITE) or Path(file).is_file()


def _settings_file() -> str:
    home = os.environ.get("AIRFLOW_HOME", "~/airflow")
    return os.environ.get("AIRFLOW_CONFIG", f"{home}/airflow.cfg")
