"""Secrets are planted where queries take them from, and looked for in all that is stored, shown, printed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import sqlalchemy as sa

from mlops_plugin.errors import DatabaseError
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.events.records import Step
from mlops_plugin.orchestration.rendering import render
from mlops_plugin.pipeline.runner import run_step
from mlops_plugin.serving.run import Showroom
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.workers.pool import ModelPool
from serving.conftest import pool  # noqa: F401 -- a fixture
from support.airflow_process import SAME_DAGS, RunningAirflow, running_airflow
from support.preloaded_python import MLOPS, PreloadedPython
from support.servers import Server
from support.workshop import Workshop
from web.conftest import sign_in
from web.test_hostile_requests import ROUTES

PASSWORD = "p@ss/w0rd x1"
TOKEN = "extra+t0ken/2"
SHORT = "q7z"
VARIABLE = "vari@ble s3cret"
IN_JSON = "js0n t0ken&4"
SECRETS = (PASSWORD, TOKEN, VARIABLE, IN_JSON)
PLANTED = {
    "AIRFLOW_CONN_VAULT": json.dumps(
        {"conn_type": "mysql", "host": "nowhere", "password": PASSWORD, "extra": {"api_key": TOKEN}}
    ),
    "AIRFLOW_CONN_BRIEF": json.dumps({"conn_type": "mysql", "host": "nowhere", "password": SHORT}),
    "AIRFLOW_VAR_DB_PASSWORD": VARIABLE,
    "AIRFLOW_VAR_SETTINGS": json.dumps({"token": IN_JSON, "region": "north"}),
}
READS = " AND ".join(
    f"'{{{{ {expression} }}}}' <> ''"
    for expression in (
        "conn.vault.password",
        "conn.get('vault').password | urlencode",
        "conn.vault.extra_dejson.api_key",
        "conn.vault.password[:4] ~ conn.vault.password[4:]",
        "conn.vault.get_uri()",
        "conn.vault.password | replace('0', 'o') | upper",
        "conn.brief.password",
        "var.value.db_password",
        "var.json.settings.token | urlencode",
    )
)
QUERY = f"SELECT id, a, b, c FROM customers WHERE {READS} AND '{{{{ var.json.settings.region }}}}' = 'north'"
# The database quotes what it did not understand.
FAILING = {
    "quoting": 'SELECT id, a, b, c FROM "no {{ conn.vault.password | urlencode }} table"',
    "naming": "SELECT id, a, b, c, [{{ var.value.db_password }}] FROM customers",
}


def spellings() -> set[str]:
    """As planted, in URLs and as the template's filters made them."""
    found = {PASSWORD.replace("0", "o").upper(), f"'{SHORT}'"}
    for secret in SECRETS:
        found |= {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), secret.upper()}
    return found


def assert_clean(text: str, where: object) -> None:
    found = [spelling for spelling in spellings() if spelling in text]
    assert not found, (where, found, text[max(0, text.find(found[0]) - 200) :][:400])


def assert_no_file_has_a_secret(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "config.yaml"]
    assert files
    for path in files:
        with contextlib.suppress(FileNotFoundError):  # a running Airflow's, e.g. a journal of SQLite
            assert_clean(path.read_bytes().decode("utf-8", "replace"), path)


@pytest.fixture
def planted(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    plant(workshop)
    return workshop


def plant(workshop: Workshop) -> None:
    workshop.add_model("churn", source={"query": QUERY})
    for name, query in FAILING.items():
        workshop.add_model(name, source={"query": query})
    workshop.add_model("parts", source={"query": QUERY, "partitions": {"column": "id", "count": 2}})


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("check", "--connect"), 1),
        pytest.param(*(("check", "--round-trip"), 1), marks=pytest.mark.long),
        (("dispatch", "churn"), 0),
        pytest.param(*(("dispatch", "parts"), 0), marks=pytest.mark.long),
        pytest.param(*(("dispatch", "churn", "--dry-run", "--limit", "2"), 0), marks=pytest.mark.long),
        (("dispatch", "quoting"), 1),
        pytest.param(*(("dispatch", "naming"), 1), marks=pytest.mark.long),
        pytest.param(*(("baseline", "churn"), 0), marks=pytest.mark.long),
        (("baseline", "quoting"), 1),
        pytest.param(*(("sign", "churn"), 0), marks=pytest.mark.long),
        (("sign", "quoting"), 1),
        pytest.param(*(("cursor",), 0), marks=pytest.mark.long),
        pytest.param(*(("schema",), 0), marks=pytest.mark.long),
        (("db", "upgrade"), 0),
        pytest.param(*(("db", "current"), 0), marks=pytest.mark.long),
    ],
    ids=str,
)
def test_no_command_prints_or_stores_a_secret(
    planted: Workshop, preloaded: PreloadedPython, arguments: tuple[str, ...], status: int
) -> None:
    # A process of its own, in which nothing is known yet.
    done = preloaded.run(MLOPS, *arguments, cwd=planted.folder, env=os.environ)
    assert done.returncode == status, done.stdout + done.stderr
    assert_clean(done.stdout + done.stderr, arguments)
    assert_no_file_has_a_secret(planted.folder)


def test_a_fault_of_ours_is_printed_without_the_secrets_that_it_quotes(planted: Workshop) -> None:
    code = (
        "import sys, argparse; from mlops_plugin.cli import mlops; from mlops_plugin.connections import *\n"
        "def fail(options): raise KeyError(get_connection('vault').password)\n"
        "mlops._COMMANDS = {'db_current': fail}; sys.exit(mlops.main(['db', 'current']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "KeyError: '***'" in done.stderr
    assert_clean(done.stdout + done.stderr, "a traceback")


def test_staged_notes_hold_no_secret(planted: Workshop) -> None:
    dispatch = planted.dispatch()
    query = render(dispatch.model.source.query, dispatch.model, moment=datetime.now(UTC))
    steps: tuple[Step, ...] = ("collect", "log", "infer")
    for step in steps:
        run_step(step, dispatch, planted.deployment, query=lambda: query)
    assert {path.name for path in planted.home.rglob("*.json")} >= {"collect.json", "log.json", "infer.json"}
    assert_no_file_has_a_secret(planted.folder)


def test_a_showroom_run_stores_and_tells_no_secret(planted: Workshop, pool: ModelPool) -> None:  # noqa: F811
    with planted.deployment.event_store() as store:
        showroom = Showroom(planted.deployment, store, pool)
        shown = showroom.run(planted.model(), Wanted(keys=[(1,)]), "me")
        showroom.run(planted.model(), Wanted(keys=[(1,)], is_why=True), "me")
        for name in FAILING:
            with pytest.raises(DatabaseError) as caught:
                showroom.run(planted.model(name), Wanted(keys=[(1,)]), "me")
            assert_clean(str(caught.value), name)
        record = store.get(shown.dispatch_id)
    assert record is not None
    assert record.query is not None
    assert record.query.count("'***'") == 8  # and one within a URI
    assert "'north' = 'north'" in record.query
    assert_no_file_has_a_secret(planted.folder)


def test_an_upgrade_masks_what_the_showroom_of_an_earlier_version_has_stored(planted: Workshop) -> None:
    with planted.deployment.event_store() as store:
        address = store.address
    for path in planted.folder.glob("events.db*"):
        path.unlink()
    upgrade(address, "0008")
    engine = address.create_engine().execution_options(writes=True)
    with engine.begin() as connection:
        for number, secret in enumerate((*SECRETS, quote(PASSWORD, safe=""))):
            connection.execute(
                sa.text(
                    "INSERT INTO mlops_dispatch (dispatch_id, model, origin, dry_run, state, created_at, "
                    "updated_at, tries, query) VALUES (:id, 'churn', 'showroom', 1, 'succeeded', "
                    "'2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000', 1, :query)"
                ),
                {"id": str(number), "query": f"SELECT '{secret}'"},
            )
    engine.dispose()
    command = [sys.executable, "-m", "mlops_plugin.cli", "db", "upgrade"]
    done = subprocess.run(command, cwd=planted.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_clean(done.stdout + done.stderr, command)
    queries = planted.records()
    assert [record.query for record in queries] == ["SELECT '***'"] * 5
    reading = address.create_engine()
    with reading.connect() as connection:
        stored = connection.execute(sa.text("SELECT query FROM mlops_dispatch")).scalars().all()
    reading.dispose()
    assert set(stored) == {"SELECT '***'"}


# With Airflow


@pytest.fixture(scope="module")
def planted_airflow(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Iterator[RunningAirflow]:
    """An Airflow that has dispatched each model once."""
    workshop = Workshop(tmp_path_factory.mktemp("planted"))
    workshop.metadata = postgres.new_database()
    workshop.sections["monitor"] = {"schedule": None, "databases": [{"connection": "vault"}]}
    plant(workshop)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in workshop.environment.items():
            patch.setenv(name, value)
        with workshop.deployment.event_store() as store:
            upgrade(store.address)
    with running_airflow(workshop, {**PLANTED, **SAME_DAGS}, roles=("Admin", "Viewer")) as airflow:
        models = {"churn": "success", "parts": "success", "quoting": "failed", "naming": "failed"}
        airflow.wait(lambda: set(models) <= set(airflow.api.dag_ids()), "the DAGs of the models")
        runs = {name: airflow.trigger(name) for name in models}
        assert {name: airflow.wait_for_run(name, run) for name, run in runs.items()} == models
        airflow.runs = runs  # type: ignore[attr-defined]
        yield airflow


@pytest.mark.airflow
@pytest.mark.slow
def test_no_task_log_no_file_and_no_record_holds_a_secret(planted_airflow: RunningAirflow) -> None:
    workshop = planted_airflow.workshop
    logs = list((workshop.home / "logs").rglob("*.log"))
    assert len(logs) > 4
    assert_no_file_has_a_secret(workshop.folder)


@pytest.mark.airflow
@pytest.mark.slow
def test_airflows_own_pages_of_a_run_show_no_secret(planted_airflow: RunningAirflow) -> None:
    runs: Mapping[str, str] = planted_airflow.runs  # type: ignore[attr-defined]
    admin = sign_in(planted_airflow, "admin")
    for name, run in runs.items():
        answer = admin.get(f"/api/v2/dags/{name}/dagRuns/{quote(run, safe='')}/taskInstances")
        assert "rendered_fields" in answer.text
        # Airflow itself masks nothing shorter than `[logging] min_length_masked_secret`.
        assert_clean(answer.text.replace(f"'{SHORT}'", ""), name)


@pytest.fixture(scope="module")
def asked_airflow(planted_airflow: RunningAirflow) -> RunningAirflow:
    """Its Showroom has run each model and was asked why, and no answer held a secret."""
    admin = sign_in(planted_airflow, "admin")
    for name in ("churn", *FAILING):
        for path in ("showroom/{}/run", "showroom/{}/why"):
            for accept in ("text/html", "application/x-ndjson"):
                answer = admin.submit(path.format(name), [("key", "[1]")], accept)
                assert_clean(answer.text, (path, name))
        assert_clean(admin.post(f"api/v1/showroom/models/{name}/runs", {"keys": [[1]]}).text, name)
    return planted_airflow


@pytest.mark.airflow
@pytest.mark.slow
@pytest.mark.parametrize("who", ["admin", "viewer"])
def test_no_route_shows_a_secret(asked_airflow: RunningAirflow, who: str) -> None:
    client = sign_in(asked_airflow, who)
    dispatches = client.get("api/v1/dispatches?limit=100").json
    listed = dispatches if isinstance(dispatches, list) else next(iter(dispatches.values()))
    ids = [one["dispatch_id"] for one in listed]
    assert len(ids) > 8
    for route in ROUTES:
        for address in _addresses(route, ids):
            for accept in ("text/html", "application/json"):
                assert_clean(client.get(address, accept=accept).text, address)
    assert_no_file_has_a_secret(asked_airflow.workshop.folder)


def _addresses(route: str, ids: list[str]) -> Iterator[str]:
    if "{dispatch_id}" in route:
        yield from (route.replace("{dispatch_id}", one) for one in ids)
        yield from (f"{route.replace('{dispatch_id}', one)}?part=story" for one in ids)
    elif "{" in route:
        part = route[route.index("{") : route.index("}") + 1]
        yield from (route.replace(part, name) for name in ("churn", "parts", *FAILING))
    elif "of-run" in route:
        yield f"{route}?dag_id=quoting&run_id=x"
    elif "history" in route:
        yield from (f"{route}?target={quote(target)}" for target in ("model quoting", "database vault"))
    else:
        yield route


def test_what_is_looked_for_would_be_found(planted: Workshop) -> None:
    assert {PASSWORD, quote(TOKEN, safe=""), f"'{SHORT}'"} <= spellings()
    (planted.folder / "leak.txt").write_text(f"x{quote_plus(VARIABLE)}y")
    with pytest.raises(AssertionError, match=r"leak\.txt"):
        assert_no_file_has_a_secret(planted.folder)
