"""Rejected and superseded rows in the views, on a real API server.

Reasons, counts, and nothing that a page would run; a dispatch that left newer predictions alone says so.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest

from mlops_plugin.cli import main
from mlops_plugin.errors import ThresholdError
from mlops_plugin.pipeline.dispatch import Dispatch
from support.airflow_process import RunningAirflow
from support.workshop import Workshop
from web.conftest import Client

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

HOSTILE = '<script>alert("x")</script>'
RULE = {"columns": {"a": {"type": "number"}, "id": {"max": 4}}}


@pytest.fixture(scope="module")
def workshop(web_airflow: RunningAirflow) -> Iterator[Workshop]:
    with web_airflow.workshop.entered():
        workshop = web_airflow.workshop
        with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source, source:
            source.execute("CREATE TABLE texts AS SELECT id, CAST(a AS TEXT) AS a, b, c FROM customers")
            source.execute("UPDATE texts SET a = ? WHERE id = 2", [HOSTILE])
        yield workshop


def described(workshop: Workshop, **changes: object) -> None:
    source = {"query": "SELECT id, a, b, c FROM texts"}
    workshop.add_model("churn", source=source, input=RULE, **changes)


@pytest.fixture(scope="module")
def failed(workshop: Workshop) -> Dispatch:
    """Two of five rows were rejected, and one is too many."""
    described(workshop, error_threshold=1)
    dispatch = workshop.dispatch()
    with pytest.raises(ThresholdError):
        workshop.run(dispatch)
    return dispatch


def test_a_dispatch_shows_why_how_many_and_which(client: Client, failed: Dispatch) -> None:
    page = client.page(f"dispatches/{failed.id}")
    assert page.status == 200
    assert "Why rows were rejected" in page.text
    assert "<td>not a number</td>" in page.text
    assert "<td>above 4</td>" in page.text
    assert "2 of 5 rows were rejected" in page.text
    records = client.page(f"dispatches/{failed.id}?part=rejected")
    assert records.status == 200
    assert "churn_predictions_quarantine" in records.text
    assert "&lt;script&gt;alert" in records.text
    assert "<script>" not in records.text


def test_the_list_counts_them_also_where_the_dispatch_failed(client: Client, failed: Dispatch) -> None:
    found = client.get("api/v1/dispatches?model=churn").json["dispatches"]
    (one,) = [dispatch for dispatch in found if dispatch["dispatch_id"] == failed.id]
    assert (one["rows_collected"], one["rows_predicted"], one["rows_rejected"]) == (5, 3, 2)
    assert one["rows_persisted"] is None


def test_a_dispatch_without_rejections_says_nothing_of_them(client: Client, workshop: Workshop) -> None:
    workshop.add_model("plain")
    dispatch = workshop.dispatch("plain")
    workshop.run(dispatch)
    assert "ejected rows" not in client.page(f"dispatches/{dispatch.id}").text
    assert "rejected no rows" in client.page(f"dispatches/{dispatch.id}?part=rejected").text


def test_a_quarantine_that_is_away_is_told_and_hides_nothing_else(
    client: Client, workshop: Workshop, failed: Dispatch
) -> None:
    described(workshop, quarantine={"connection": "nobody"})
    records = client.page(f"dispatches/{failed.id}?part=rejected")
    assert records.status == 200
    assert "notice-error" in records.text
    assert "nobody" in records.text
    described(workshop)


def test_the_showroom_shows_reasons_in_the_place_of_a_prediction(client: Client, workshop: Workshop) -> None:
    described(workshop)
    page = client.submit("showroom/churn/run", [("key", "[1]"), ("key", "[2]"), ("key", "[5]")])
    assert page.status == 200
    assert page.text.count('<p class="prediction">rejected</p>') == 2
    assert "<li>id: above 4 (found 5)</li>" in page.text
    assert "<li>a: not a number (found &lt;script&gt;" in page.text
    assert "<script>alert" not in page.text


def test_the_api_names_rejected_rows(client: Client, workshop: Workshop) -> None:
    described(workshop)
    answer = client.post("api/v1/showroom/models/churn/runs", {"keys": [[1], [5]]})
    assert answer.status == 200, answer.text
    assert [row["id"] for row in answer.json["predictions"]] == [1]
    assert answer.json["rejected"] == [{"row": 1, "column": "id", "reason": "above 4", "value": "5"}]
    detail = client.get(f"api/v1/dispatches/{answer.json['dispatch_id']}").json
    assert (detail["state"], detail["rows_rejected"]) == ("succeeded", 1)


def test_a_what_if_may_be_rejected_before_or_after(client: Client, workshop: Workshop) -> None:
    described(workshop)
    fields = [("key", "[1]"), ("was.a", "1"), ("set.a", "no number")]
    page = client.submit("showroom/churn/run", fields)
    assert page.status == 200
    assert "a: not a number (found no number)" in page.text


def test_what_if_takes_its_ranges_from_the_baseline_where_there_is_one(
    client: Client, workshop: Workshop
) -> None:
    workshop.add_model("churn")
    page = client.page("showroom/churn/what-if?key=[1]").text
    assert "come from the first 5 cases, not the training data" in page
    assert main(["baseline", "churn", "--query", "SELECT id, a, b, c FROM customers WHERE id < 3"]) == 0
    try:
        page = client.page("showroom/churn/what-if?key=[1]").text
        assert "come from the model's baseline: 2 rows" in page
        assert "WHERE id &lt; 3" in page
    finally:
        (workshop.folder / "churn.skops.baseline.json").unlink()


@pytest.fixture(scope="module")
def late(workshop: Workshop) -> Dispatch:
    """It read all rows before another dispatch, and persists after it."""
    workshop.add_model("superseded")
    dispatch = workshop.dispatch("superseded")
    workshop.run_steps(dispatch, "collect", "log", "infer")
    workshop.run(workshop.dispatch("superseded"))
    workshop.run_steps(dispatch, "persist")
    return dispatch


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
