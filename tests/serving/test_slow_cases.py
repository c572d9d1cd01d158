"""A query for cases that takes too long ends at the server, too: giving up here leaves it running there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlops_plugin.errors import DatabaseError, ServerSilent
from mlops_plugin.serving import cases as cases_module
from mlops_plugin.serving.cases import CaseView, open_cases
from mlops_plugin.wait_limits import Limits
from mlops_plugin.web.error_status import status_of
from support.fork_servers import wait_until
from support.ways_in import INTO_MARIADB, way_in
from support.workshop import Workshop

_SLOW_S = 120
_SLOW = {"mysql": f"SLEEP({_SLOW_S})", "postgres": f"CAST(pg_sleep({_SLOW_S}) AS text)"}
_RUNNING = {
    "mysql": f"SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP({_SLOW_S})%'"
    " AND id <> connection_id()",
    "postgres": "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
    f" AND query LIKE '%pg_sleep({_SLOW_S})%' AND pid <> pg_backend_pid()",
}


@pytest.mark.parametrize("name", [*INTO_MARIADB, "postgres", "odbc-postgres"])
def test_server_ends_the_query(
    name: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    workshop: Workshop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cases_module, "SERVER_SHARE", 0.05)  # a busy machine hears late that it has ended
    way = way_in(name, request, tmp_path)
    way.execute("CREATE TABLE things (id INTEGER PRIMARY KEY)", "INSERT INTO things VALUES (1)")
    workshop.connections["slow"] = way.airflow_connection
    cases = f"SELECT id, {_SLOW[way.engine]} AS slept FROM things"
    workshop.add_model(
        "churn", source={"connection": "slow", "query": "SELECT id FROM things"}, showroom={"cases": cases}
    )
    with workshop.entered():
        deployment = replace(workshop.deployment, limits=Limits(statement_s=60))
        with open_cases(workshop.model(), deployment) as opened, pytest.raises(DatabaseError) as error:
            opened.page(CaseView())
    assert not isinstance(error.value, ServerSilent)
    assert status_of(error.value) == 503
    # A server says that a query has failed before it counts it as ended.
    wait_until(lambda: way.rows(_RUNNING[way.engine]) == [(0,)], within_s=_SLOW_S / 2)
