"""A dispatch that left newer predictions alone says so: on its page and in the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlops_plugin.pipeline.dispatch import Dispatch
from support.airflow_process import RunningAirflow
from web.conftest import Client

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def late(web_airflow: RunningAirflow) -> Iterator[Dispatch]:
    """It read all rows before another dispatch, and persists after it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in web_airflow.workshop.environment.items():
            patch.setenv(name, value)
        workshop = web_airflow.workshop
        workshop.add_model("superseded")
        dispatch = workshop.dispatch("superseded")
        workshop.run_steps(dispatch, "collect", "log", "infer")
        workshop.run(workshop.dispatch("superseded"))
        workshop.run_steps(dispatch, "persist")
        yield dispatch


def test_page_counts_superseded_rows_and_says_why_there_are_no_predictions(
    client: Client, late: Dispatch
) -> None:
    page = client.page(f"dispatches/{late.id}")
    assert page.status == 200
    assert '>Superseded</dt><dd class="number">5</dd>' in page.text
    assert "newer dispatch" in client.page(f"dispatches/{late.id}?part=predictions").text


def test_api_counts_superseded_rows(client: Client, late: Dispatch) -> None:
    found = client.get("api/v1/dispatches?model=superseded").json["dispatches"]
    counts = {one["dispatch_id"]: (one["rows_persisted"], one["rows_superseded"]) for one in found}
    assert counts[late.id] == (0, 5)
    assert sorted(counts.values()) == [(0, 5), (5, 0)]
