"""What holds for every view: the door, the headers, the errors, and what the OpenAPI document says."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from html import unescape
from typing import Any, cast

import hypothesis
import pytest

from support.airflow_process import RunningAirflow
from web.conftest import Client

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


def test_openapi_lists_the_routes(client: Client) -> None:
    answer = client.get("api/v1/openapi.json")
    assert answer.status == 200
    assert answer.json["info"]["title"] == "ML models on Airflow"


@pytest.mark.parametrize("name", ["mlops.css", "page.js", "showroom/showroom.css", "monitor/monitor.js"])
def test_asset_is_served_and_may_be_kept(client: Client, name: str) -> None:
    answer = client.get(f"static/{name}")
    assert answer.status == 200
    assert "max-age" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    "path",
    [
        "static/nothing.css",
        "static/monitor.css",
        "static/monitor/page.html",
        "static/monitor/..%2Fmlops.css",
        "static/..%2Fapp.py",
        "static/%2e%2e%2fapp.py",
        "static/",
        "nowhere",
    ],
)
def test_what_is_not_there_is_not_found(client: Client, path: str) -> None:
    assert client.get(path).status == 404


def test_every_answer_carries_the_security_headers(client: Client, nobody: Client) -> None:
    for answer in (client.get("static/mlops.css"), client.get("nowhere"), nobody.get("static/mlops.css")):
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_forged_token_is_refused(web_airflow: object, client: Client) -> None:
    forged = Client(web_airflow, "e30.e30.e30")  # type: ignore[arg-type]
    assert forged.get("static/mlops.css").status in (401, 403)


def test_error_is_a_page_for_people_and_json_for_programs(client: Client) -> None:
    assert "<h1>" in client.page("static/nothing.css").text
    assert client.get("static/nothing.css").json["detail"] == "there is no asset 'nothing.css'"


def test_signed_out_page_needs_nothing_that_is_behind_the_door(nobody: Client) -> None:
    page = nobody.page("showroom/churn?search=a&page=2")
    assert page.status == 401
    assert "static/" not in page.text
    back = "next=%2Fmlops%2Fshowroom%2Fchurn%3Fsearch%3Da%26page%3D2"
    assert f'href="../../api/v2/auth/login?{back}"' in page.text


def test_what_nobody_foresaw_is_a_page_with_headers_and_without_details(
    client: Client, web_airflow: RunningAirflow
) -> None:
    metadata = web_airflow.workshop.metadata
    assert metadata
    metadata.execute("ALTER TABLE dag RENAME TO dag_away")
    try:
        page = client.get("monitor", accept="text/html", cookie="mlops_time_zone=Europe/Berlin")
    finally:
        metadata.execute("ALTER TABLE dag_away RENAME TO dag")
    assert page.status == 500
    assert "see the log of the API server" in unescape(page.text)
    assert "does not exist" not in page.text
    assert 'data-zone="Europe/Berlin"' in page.text  # else it would be loaded twice
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["monitor", "showroom", "api/v1/dispatches", "api/v1/showroom/models"])
def test_wrong_configuration_is_told_with_file_and_line(
    client: Client, web_airflow: RunningAirflow, path: str
) -> None:
    workshop = web_airflow.workshop
    workshop.config_file.write_text("surprise: 1\n")
    try:
        answer = client.get(path)
    finally:
        workshop.write()
    assert answer.status == 500
    assert "config.yaml:1" in answer.json["detail"]


def test_broken_model_is_no_fault_of_the_request(client: Client, web_airflow: RunningAirflow) -> None:
    workshop = web_airflow.workshop
    workshop.models["broken"] = {"key": ["id"]}
    workshop.write()
    try:
        answer = client.get("api/v1/showroom/models/broken/cases")
    finally:
        del workshop.models["broken"]
        workshop.write()
    assert answer.status == 500
    assert "config.yaml:" in answer.json["detail"]


def test_event_store_that_is_away_is_unavailable(client: Client, web_airflow: RunningAirflow) -> None:
    with closing(sqlite3.connect(web_airflow.workshop.folder / "events.db")) as database:
        database.execute("ALTER TABLE mlops_dispatch RENAME TO dispatch_away")
        try:
            answer = client.get("api/v1/dispatches")
        finally:
            database.execute("ALTER TABLE dispatch_away RENAME TO mlops_dispatch")
    assert answer.status == 503
    assert "mlops_dispatch" in answer.json["detail"]


EXAMPLES = 12  # of each operation
OPERATIONS = 10  # at least
MODES = ["positive", "negative"]
# Names in a path that exist, so that a request comes further than to "there is none of that name".
KNOWN: Mapping[str, str] = {"name": "churn", "model": "churn"}


@pytest.mark.parametrize("mode", MODES)
def test_every_answer_is_as_described(web_airflow: RunningAirflow, client: Client, mode: str) -> None:
    # Here, because it takes a second that whoever collects the tests would wait for.
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    assert {each.value for each in GenerationMode} == {*MODES}
    # Which columns a model has is not in the document: a valid request may name others, and gets 422.
    not_in_the_document = [positive_data_acceptance]
    document = client.get("api/v1/openapi.json").json
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=web_airflow.api.url + document["servers"][0]["url"])
    headers = {"Authorization": f"Bearer {client.token}"}
    operations = [cast("Any", found).ok() for found in schema.get_all_operations()]
    assert len(operations) >= OPERATIONS
    for operation in operations:

        @hypothesis.settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=GenerationMode(mode)))
        def answers_as_described(case: Any) -> None:
            case.call_and_validate(headers=headers, excluded_checks=not_in_the_document, timeout=60)
            if known := {name: KNOWN[name] for name in case.path_parameters or {} if name in KNOWN}:
                case.path_parameters.update(known)
                case.call_and_validate(headers=headers, excluded_checks=not_in_the_document, timeout=60)

        answers_as_described()
