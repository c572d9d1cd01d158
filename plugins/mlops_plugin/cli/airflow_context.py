"""Lets the `mlops` command read connections and Variables as Airflow's own processes do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_plugin.connections import PROCESS_CONTEXT, SERVER

_SQLITE = "sqlite:///"


@contextmanager
def stored_connections() -> Iterator[None]:
    """Look up connections in secrets backends, the environment and the metadata database, in this order.

    Only this process does, and only inside: `workers` hand no such variable on to a model's process. Without
    a metadata database, the first two serve.
    """
    if PROCESS_CONTEXT in os.environ or not _has_metadata_database():
        yield
        return
    os.environ[PROCESS_CONTEXT] = SERVER
    try:
        yield
    finally:
        del os.environ[PROCESS_CONTEXT]


def _has_metadata_database() -> bool:
    from airflow.sdk.configuration import conf

    address = conf.get("database", "sql_alchemy_conn", fallback=None)
    if not address:
        return False
    # Opening a SQLite file that is not there would make an empty one.
    return not address.startswith(_SQLITE) or Path(address.removeprefix(_SQLITE)).is_file()
