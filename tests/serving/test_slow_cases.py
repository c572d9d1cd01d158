"""A query for cases that takes too long ends at the server, too: giving up here leaves it running there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlops_plugin.errors import DatabaseError, ServerSilent
from mlops_plugin.serving.cases import CaseView, open_cases
from mlops_plugin.wait_limits import Limits
from mlops_plugin.web.error_status import status_of
from support.ways_in import INTO_MARIADB, way_in
from support.workshop import Workshop

_SLOW = {"mysql": "SLEEP(50)", "postgres": "CAST(pg_sleep(50) AS text)"}
_RUNNING = {
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(50)%'"
    " AND id <> connection_id()",
    "postgres": "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(50)%'"
    " AND pid <> pg_backend_pid()",
}


@pytest.mark.parametrize("name", [*INTO_MARIADB, "postgres", "odbc-postgres"])
def test_server_ends_the_query(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, workshop: Workshop
) -> None:
    way = way_in(name, request, tmp_path)
    way.execute("CREATE TABLE things (id INTEGER PRIMARY KEY)", "INSERT INTO things VALUES (1)")
    workshop.connections["slow"] = way.airflow_connection
    cases = f"SELECT id, {_SLOW[way.engine]} AS slept FROM things"
    workshop.add_model(
        "churn", source={"connection": "slow", "query": "SELECT id FROM things"}, showroom={"cases": cases}
    )
    with workshop.entered():
        deployment = replace(workshop.deployment, limits=Limits(statement_s=3))
        with open_cases(workshop.model(), deployment) as opened, pytest.raises(DatabaseError) as error:
            opened.page(CaseView())
    assert not isinstance(error.value, ServerSilent)
    assert status_of(error.value) == 503
    assert way.rows(_RUNNING[way.engine]) == [(0,)]
