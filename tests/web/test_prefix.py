"""The views below a path of a proxy, as `[api] base_url` says it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest

from support.airflow_process import RunningAirflow, running_airflow
from support.servers import Server
from support.workshop import Workshop
from web.conftest import Client

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

BASE = "https://airflow.example.org/team/airflow"
PREFIX = "/team/airflow/mlops/"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Iterator[Client]:
    """A program that calls the server as its proxy does: with the whole path."""
    workshop = Workshop(tmp_path_factory.mktemp("prefix"))
    workshop.metadata = postgres.new_database()
    settings = {"AIRFLOW__API__BASE_URL": BASE}
    with workshop.ready(), running_airflow(workshop, settings, components=["api-server"]) as airflow:
        yield Client(airflow, _token(airflow))


def _token(airflow: RunningAirflow) -> str:
    return str(airflow.api.call("GET", "/team/airflow/auth/token")["access_token"])


def test_copied_command_goes_through_the_proxy(client: Client) -> None:
    page = client.submit(f"{PREFIX}showroom/churn/run", [("key", "[2]")])
    assert page.status == 200
    assert f"curl -sS {BASE}/mlops/api/v1/showroom/models/churn/runs " in html.unescape(page.text)


@pytest.mark.parametrize("path", ["showroom", "showroom/churn", "dispatches", "monitor"])
def test_links_stay_below_the_prefix(client: Client, path: str) -> None:
    page = client.page(f"{PREFIX}{path}")
    assert page.status == 200
    links = {urljoin(f"{PREFIX}{path}", link) for link in re.findall(r'(?:href|src)="([^"#?]+)', page.text)}
    assert links
    assert [link for link in links if not link.startswith("/team/airflow/")] == []
    (style,) = (link for link in links if link.endswith("mlops.css"))
    assert client.get(style).status == 200
