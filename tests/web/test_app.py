"""What holds for every view: the door, the headers, the errors."""

from __future__ import annotations

import pytest

from web.conftest import Client

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


def test_openapi_lists_the_routes(client: Client) -> None:
    answer = client.get("api/v1/openapi.json")
    assert answer.status == 200
    assert answer.json["info"]["title"] == "ML models on Airflow"


def test_asset_is_served_and_may_be_kept(client: Client) -> None:
    answer = client.get("static/mlops.css")
    assert answer.status == 200
    assert "max-age" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    "path", ["static/nothing.css", "static/..%2Fapp.py", "static/%2e%2e%2fapp.py", "nowhere"]
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
