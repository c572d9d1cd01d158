"""The soak's oracle notices what is wrong; and some faults in a real Airflow (`make soak` has more)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.soak import soak
from mlops_plugin.events.migrating import upgrade
from support.servers import ServerDatabase
from support.soak_oracle import End, Findings, Watch, look
from support.soaked_models import MODELS, Customers, add_models, sink_of
from support.workshop import Workshop


@pytest.fixture
def end(tmp_path: Path, mariadb_database: ServerDatabase, postgres_database: ServerDatabase) -> Iterator[End]:
    """Every model of a soak was dispatched twice, and nothing went wrong; key 7 is bad now, key 8 gone."""
    workshop = Workshop(tmp_path)
    rows, second = mariadb_database, postgres_database
    workshop.connections = {
        **dict.fromkeys(("source", "sink", "events"), rows.airflow_uri()),
        "by_odbc": rows.airflow_uri("odbc"),
        "second": second.airflow_uri(),
    }
    add_models(workshop)
    customers = Customers(rows)
    customers.create()
    with workshop.entered():
        with workshop.deployment.event_store() as store:
            upgrade(store.address)
        for is_last in (False, True):
            last = {}
            for name in MODELS:
                dispatch = workshop.dispatch(name)
                workshop.run(dispatch)
                last[name] = dispatch.id
            if not is_last:
                customers.change(7, is_bad=True)
                customers.delete(8)
                customers.change_some(random.Random(1))
        sinks = {"sink": rows, "by_odbc": rows, "second": second}
        yield End(workshop, customers, sinks, last, frozenset())


def found_in(end: End) -> Findings:
    found = Findings()
    look(end, found)
    return found


def test_oracle_finds_nothing_where_nothing_went_wrong_and_each_thing_that_did(end: End) -> None:
    assert found_in(end).all == []
    tables = {name: end.sinks[sink_of(name)["connection"]] for name in MODELS}
    good = [key for key, (_, is_bad) in sorted(end.customers.rows.items()) if not is_bad]
    for name, database in tables.items():
        rows = f"{name}_predictions_rows"
        database.execute(f"UPDATE {rows} SET prediction = prediction - 1 WHERE id = {good[0]}")
        database.execute(f"DELETE FROM {rows} WHERE id = {good[1]}")
    end.sinks["sink"].execute("DELETE FROM following_predictions_quarantine WHERE id = 7")
    end.sinks["sink"].execute("UPDATE mlops_dispatch SET state = 'running' WHERE model = 'divided'")
    found = found_in(end)
    stale = {line.split(":")[0] for line in found.stale if f": key {good[0]} " in line}
    assert stale == MODELS.keys() - {"skipping"}  # which keeps what was predicted once
    lost = {name for name in MODELS if f"{name}: key {good[1]}" in found.lost}
    assert lost == {*MODELS}
    assert "following: key 7 is bad, and not in quarantine" in found.lost
    assert sum(line.startswith("divided: ") for line in found.untrue) == 2
    assert {line.split(":")[0] for line in found.untrue} >= {"appending", "skipping"}  # they keep all rows


def test_watch_notices_a_prediction_that_goes_back_or_vanishes(mariadb_database: ServerDatabase) -> None:
    watch = Watch(
        dict.fromkeys(("sink", "by_odbc", "second"), mariadb_database), Findings(), mariadb_database
    )
    for name in ("following", "elsewhere"):
        columns = "id INT, prediction DOUBLE, dispatch_id VARCHAR(36)"
        mariadb_database.execute(
            f"CREATE TABLE {name}_predictions ({columns})",
            f"INSERT INTO {name}_predictions VALUES (9, 5, 'one'), (10, 6, 'one')",
        )
    watch.look()
    mariadb_database.execute("UPDATE following_predictions SET prediction = 7 WHERE id = 10")
    watch.look()
    assert (watch.looks, watch.found.all) == (4, [])
    mariadb_database.execute("UPDATE following_predictions SET prediction = 4 WHERE id = 9")
    mariadb_database.execute("DELETE FROM elsewhere_predictions WHERE id = 9")
    watch.look()
    assert [line[:16] for line in watch.found.stale] == ["following: key 9"]
    assert [line[:16] for line in watch.found.lost] == ["elsewhere: key 9"]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.airflow
@pytest.mark.server
@pytest.mark.parametrize("executor", ["LocalExecutor", "CeleryExecutor"])
def test_nothing_is_lost_doubled_or_stale_after_some_faults(tmp_path: Path, executor: str) -> None:
    tally = soak(tmp_path, faults=30, seed=3, executor=executor)
    assert tally.faults.total() == 30
    assert (tally.hangs, tally.findings.all) == ([], []), "\n".join(tally.lines)
