"""Workshops that live on a server, and shelves on two kinds of storage."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from mlops_plugin.pipeline.staging.shelf import Shelf, Staging
from support.event_tables import make_tables
from support.servers import ServerDatabase
from support.ways_in import INTO_MARIADB
from support.workshop import Workshop


@pytest.fixture(params=["odbc-mariadb", "mysql", "odbc-postgres", "postgres"])
def on_server(
    request: pytest.FixtureRequest, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> tuple[Workshop, ServerDatabase]:
    """A workshop whose source, sink and event store are one database of a server, with no rows yet."""
    engine = "mariadb" if request.param in INTO_MARIADB else "postgres"
    database: ServerDatabase = request.getfixturevalue(f"{engine}_database")
    rows = database.airflow_uri("odbc" if request.param.startswith("odbc") else None)
    for name, uri in (("SOURCE", rows), ("SINK", rows), ("EVENTS", database.airflow_uri())):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", uri)
    with workshop.deployment.event_store() as store:
        make_tables(store.address)
    return workshop, database


@pytest.fixture(params=["folder", "url"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """A shelf on a local folder, and one on a storage that is none."""
    root = str(tmp_path) if request.param == "folder" else f"memory://staging-{tmp_path.name}"
    return Staging(root, timedelta(days=1)).shelf("churn", "d-1")
