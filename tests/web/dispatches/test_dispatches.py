"""The Dispatches view over HTTP, on a real API server with dispatches that really ran."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from mlops_plugin.errors import MlopsError
from mlops_plugin.events.details.milestones import TryStart
from mlops_plugin.events.details.step_reports import InferReport, LogReport, RegisteredVersion
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.dispatch import STEPS, Dispatch, dispatch_id
from support.airflow_process import RunningAirflow
from support.event_stories import new_identity
from support.workshop import Workshop
from web.conftest import Client

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

RUN = "manual__2026-01-01T00:00:00+00:00"
HOSTILE = '<script>alert("x")</script>'
MANY = "many"


@dataclass(frozen=True)
class Story:
    """Dispatches of the model `told`, oldest first, and one that was never a run."""

    first: str
    second: str
    failed: str
    running: str


def run(workshop: Workshop, name: str, **changes: object) -> Dispatch:
    dispatch = workshop.dispatch(name, **changes)
    with contextlib.suppress(MlopsError):
        workshop.run(dispatch)
    return dispatch


@pytest.fixture(scope="module")
def workshop(web_airflow: RunningAirflow) -> Iterator[Workshop]:
    with web_airflow.workshop.entered():
        yield web_airflow.workshop


@pytest.fixture(scope="module")
def store(workshop: Workshop) -> Iterator[EventStore]:
    with workshop.deployment.event_store() as store:
        yield store


@pytest.fixture(scope="module")
def story(workshop: Workshop, store: EventStore) -> Story:
    workshop.add_model("told")
    first = run(workshop, "told")
    workshop.add_rows(7)
    second = run(workshop, "told", requested_by=HOSTILE)
    workshop.add_model("told", source={"query": "SELECT id, '<b>' AS a FROM no_such_table"})
    failed = run(workshop, "told")
    workshop.add_model("told")
    running = new_identity("told", dag_id="told", run_id=RUN)
    running = type(running)(**{**vars(running), "dispatch_id": dispatch_id("told", RUN)})
    store.begin(running)
    store.step_started(running.dispatch_id, "collect", 1)
    return Story(first.id, second.id, failed.id, running.dispatch_id)


def test_list_shows_every_dispatch_newest_first(client: Client, story: Story) -> None:
    page = client.page("dispatches?model=told")
    assert page.status == 200
    order = re.findall(r'id="d-([^"]+)"', page.text)
    assert order == [story.running, story.failed, story.second, story.first]
    assert "4 dispatches, 1 running, 1 failed" in re.sub(r"<[^>]+>", "", page.text)
    assert "no such table: no_such_table" in page.text
    assert f'href="dispatches/{story.first}"' in page.text
    assert f'href="dispatches/{story.first}#predictions"' in page.text


def test_list_looks_again_soon_while_something_runs(client: Client, story: Story) -> None:
    assert 'data-every="3"' in client.page("dispatches?model=told").text
    assert 'data-every="30"' in client.page("dispatches?model=told&state=succeeded").text
    part = client.page("dispatches?model=told&part=list")
    assert "<html" not in part.text
    assert story.running in part.text


def test_hostile_text_is_shown_and_not_run(client: Client, story: Story) -> None:
    for page in (
        client.page("dispatches?model=told"),
        client.page(f"dispatches/{story.second}"),
        client.page(f"dispatches?model={quote(HOSTILE)}"),
        client.page(f"dispatches/of-run?dag_id={quote(HOSTILE)}&run_id=x"),
    ):
        assert page.status == 200
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;" in page.text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=failed", ["failed"]),
        ("state=running", ["running"]),
        ("origin=terminal", ["failed", "second", "first"]),
        ("origin=manual&state=running", ["running"]),
        ("origin=backfill", []),
        ("since=2000-01-01T00:00", ["running", "failed", "second", "first"]),
        ("until=2000-01-01T00:00:00Z", []),
        ("state=&origin=&since=&until=", ["running", "failed", "second", "first"]),
    ],
)
def test_filters_limit_page_and_api_alike(
    client: Client, story: Story, query: str, expected: list[str]
) -> None:
    wanted = [getattr(story, name) for name in expected]
    assert re.findall(r'id="d-([^"]+)"', client.page(f"dispatches?model=told&{query}").text) == wanted
    answer = client.get(f"api/v1/dispatches?model=told&{query}").json
    assert [found["dispatch_id"] for found in answer["dispatches"]] == wanted
    assert (answer["count"], answer["is_count_bounded"]) == (len(wanted), False)


@pytest.mark.parametrize(
    "query",
    [
        "state=odd",
        "origin=odd",
        "since=soon",
        "before=here",
        "before=2026-01-01~x",
        "before=2026-01-01T00:00Z",
        "before=2026-01-01T00:00Z~%00",
        "before=0001-01-01T00:00%2B14:00~x",
        "since=0001-01-01T00:00%2B14:00",
        "model=a%00b",
        "limit=0",
        "limit=100000",
    ],
)
def test_what_is_no_filter_is_refused_with_its_name(client: Client, query: str) -> None:
    answer = client.get(f"api/v1/dispatches?{query}")
    assert answer.status == 422
    assert query.split("=")[0] in answer.json["detail"]
    assert client.page(f"dispatches?{query}").status == 422


def test_pages_follow_one_another_without_gap(client: Client, store: EventStore) -> None:
    identities = [new_identity(MANY, requested_by="=HYPERLINK(1)") for _ in range(7)]
    for identity in identities:
        store.begin(identity)
    seen, before = [], ""
    while before is not None:
        page = client.get(f"api/v1/dispatches?model={MANY}&limit=3&before={quote(before)}").json
        seen += [found["dispatch_id"] for found in page["dispatches"]]
        before = page["next"]
    assert seen == [identity.dispatch_id for identity in reversed(identities)]

    first = client.page(f"dispatches?model={MANY}&limit=3").text
    older = re.search(r'href="([^"]+)" id="older"', first)
    assert older is not None
    second = client.page(older[1].replace("&amp;", "&")).text
    assert re.findall(r'id="d-([^"]+)"', second) == seen[3:6]
    newer = re.search(r'href="([^"]+)" id="newer"', second)
    assert newer is not None
    back = client.page(newer[1].replace("&amp;", "&")).text
    assert re.findall(r'id="d-([^"]+)"', back) == seen[:3]
    ahead = client.page(f"dispatches?model={MANY}&limit=5&after={newer[1].split('after=')[1]}").text
    assert re.findall(r'id="d-([^"]+)"', ahead) == seen[:5]  # fewer are newer: the first page is whole
    assert 'id="newer"' not in ahead


def test_tab_of_a_dag_keeps_to_its_model(client: Client, story: Story) -> None:
    tab = client.page("dispatches?model=told&tab=dag&state=failed").text
    assert 'name="model" value="told"' in tab
    assert '<select id="model"' not in tab
    assert 'href="dispatches?model=told&amp;tab=dag">Reset<' in tab
    assert 'href="dispatches">Reset<' in client.page("dispatches?model=told&state=failed").text


def test_dispatch_leads_back_to_the_list_that_led_to_it(client: Client, story: Story) -> None:
    in_tab = re.search(r'href="(dispatches/[^"]+)" id="d-', client.page("dispatches?model=told&tab=dag").text)
    assert in_tab is not None
    for path, crumbs in (
        (in_tab[1], ["../dispatches?model=told&amp;tab=dag"]),
        (in_tab[1].partition("?")[0], ["../dispatches", "../dispatches?model=told"]),
    ):
        page = client.page(path).text
        trail = page.partition('<nav aria-label="Breadcrumb">')[2].partition("</nav>")[0]
        assert re.findall(r'href="([^"]+)"', trail) == crumbs
    of_run = client.page(f"dispatches/of-run?dag_id=told&run_id={quote(RUN)}").text
    assert story.running in of_run
    assert 'aria-label="Breadcrumb"' not in of_run


def test_dispatch_without_an_interval_says_so(client: Client, store: EventStore) -> None:
    identity = new_identity("by hand", data_interval_start=None, data_interval_end=None)
    store.begin(identity)
    assert "no interval" in client.page(f"dispatches/{identity.dispatch_id}").text
    assert "no interval" in client.page("dispatches?model=by%20hand").text


def test_csv_has_what_the_filter_shows_and_no_formulas(client: Client, store: EventStore) -> None:
    for asked_by in ("=1+1", "+1", "-1", "@SUM(1)", "\t=1", 'quote " comma , line \n end', None):
        store.begin(new_identity("csv", requested_by=asked_by))
    answer = client.get("api/v1/dispatches.csv?model=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "dispatches-csv.csv" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    asked = [row["requested_by"] for row in reversed(rows)]
    assert asked == ["'=1+1", "'+1", "'-1", "'@SUM(1)", "'\t=1", 'quote " comma , line \n end', ""]
    assert {row["model"] for row in rows} == {"csv"}
    assert client.get("api/v1/dispatches.csv?model=gone").text.count("\n") == 1


def test_csv_of_more_than_a_page_is_complete(client: Client, story: Story) -> None:
    rows = list(csv.DictReader(io.StringIO(client.get("api/v1/dispatches.csv?model=told").text)))
    assert [row["dispatch_id"] for row in rows] == [story.running, story.failed, story.second, story.first]
    assert rows[2]["rows_persisted"] == "12"


def test_one_dispatch_tells_its_steps(client: Client, story: Story) -> None:
    page = client.page(f"dispatches/{story.second}").text
    for step in ("collect", "log", "infer", "persist"):
        assert f'<th scope="row">{step}</th>' in page
    assert page.count("badge-ok") >= 5
    assert "SELECT id, a, b, c FROM customers" in page
    assert "Steps over time" in page
    assert "the one before" in page  # it is compared with `first`
    assert story.first in page


def test_one_dispatch_as_json(client: Client, story: Story) -> None:
    found = client.get(f"api/v1/dispatches/{story.second}").json
    assert (found["state"], found["rows_collected"], found["rows_persisted"]) == ("succeeded", 12, 12)
    assert [(event["step"], event["kind"]) for event in found["events"]][:2] == [
        (None, "started"),
        ("collect", "started"),
    ]
    assert found["seconds"] > 0


def test_signature_is_shown_and_whether_it_changed(client: Client, store: EventStore) -> None:
    ids = []
    for signature in (None, "1" * 64, "2" * 64):
        identity = new_identity("signed_anew")
        store.begin(identity)
        report = LogReport(1, "a" * 64, "c" * 64, signature)
        store.step_succeeded(identity.dispatch_id, "log", 1, rows=1, report=report)
        store.finish(identity.dispatch_id, collected=1, predicted=1, rejected=0, persisted=1)
        ids.append(identity.dispatch_id)
    texts = [client.page(f"dispatches/{dispatch}").text for dispatch in ids]
    assert ["Signature SHA-256" in text for text in texts] == [False, True, True]
    assert ["changed since the previous dispatch" in text for text in texts] == [False, False, True]
    details = [client.get(f"api/v1/dispatches/{dispatch}").json for dispatch in ids]
    assert [found["signature_sha256"] for found in details] == [None, "1" * 64, "2" * 64]


def test_the_version_of_a_registered_model_is_shown(client: Client, store: EventStore) -> None:
    identity = new_identity("registered")
    store.begin(identity)
    registered = RegisteredVersion("<b>churn", "7", "champion", "run4711")
    report = LogReport(1, "a" * 64, "c" * 64, registered=registered)
    store.step_succeeded(identity.dispatch_id, "log", 1, rows=1, report=report)
    page = client.page(f"dispatches/{identity.dispatch_id}").text
    assert "&lt;b&gt;churn" in page
    found = dict(re.findall(r'id="(model-version|model-alias|mlflow-run)"[^>]*>([^<]*)<', page))
    assert found == {"model-version": "7", "model-alias": "champion", "mlflow-run": "run4711"}
    (logged,) = (
        event["details"]
        for event in client.get(f"api/v1/dispatches/{identity.dispatch_id}").json["events"]
        if event["step"] == "log"
    )
    assert logged["registered"] == {
        "name": "<b>churn",
        "version": "7",
        "alias": "champion",
        "run_id": "run4711",
    }


def test_the_versions_that_predicted_stand_on_the_dispatch(client: Client, store: EventStore) -> None:
    identity = new_identity("has_libraries")
    store.begin(identity)
    before = client.get(f"api/v1/dispatches/{identity.dispatch_id}").json
    versions = {"Python": "3.11.9", "scikit-learn": "1.4.2"}
    report = InferReport(1, libraries=versions)
    store.step_succeeded(identity.dispatch_id, "infer", 1, rows=1, report=report)
    after = client.get(f"api/v1/dispatches/{identity.dispatch_id}").json
    assert (before["libraries"], after["libraries"]) == (None, versions)
    page = client.page(f"dispatches/{identity.dispatch_id}")
    assert "Python 3.11.9, scikit-learn 1.4.2" in page.text


def test_failed_dispatch_says_why(client: Client, story: Story) -> None:
    page = client.page(f"dispatches/{story.failed}").text
    assert "no such table: no_such_table" in page
    assert "not started" in page


def test_each_try_of_a_run_leads_to_its_log_and_each_partition_to_that_of_its_mapped_task(
    client: Client, store: EventStore
) -> None:
    run_id = "manual__2026-02-02T00:00:00+00:00"
    identity = new_identity("parted", dag_id="parted", run_id=run_id)
    store.begin(identity)
    store.step_started(identity.dispatch_id, "plan", 1)
    store.step_succeeded(identity.dispatch_id, "plan", 1)
    for partition in (0, 1):
        store.step_started(identity.dispatch_id, "collect", 1, partition=partition)
        store.step_succeeded(identity.dispatch_id, "collect", 1, partition=partition, rows=5)
    store.step_started(identity.dispatch_id, "log", 1)
    store.step_succeeded(identity.dispatch_id, "log", 1, rows=10)
    for number in (1, 2):
        store.step_started(identity.dispatch_id, "infer", number, partition=1)
        store.step_failed(
            identity.dispatch_id, "infer", number, partition=1, error="no memory", is_final=number == 2
        )

    page = client.page(f"dispatches/{identity.dispatch_id}").text
    tasks = f"../../dags/parted/runs/{quote(run_id, safe='')}/tasks"
    found = set(re.findall(r'href="([^"]*/tasks/[^"]*)"', page))
    assert found == {
        f"{tasks}/plan?try_number=1",
        f"{tasks}/collect/mapped/0?try_number=1",
        f"{tasks}/collect/mapped/1?try_number=1",
        f"{tasks}/log?try_number=1",
        f"{tasks}/infer/mapped/1?try_number=1",
        f"{tasks}/infer/mapped/1?try_number=2",
    }
    assert 'aria-label="Log of infer of partition 1, try 2"' in page


def test_steps_of_one_task_lead_to_the_log_of_that_task(client: Client, store: EventStore) -> None:
    identity = new_identity("whole", dag_id="whole", run_id="r1")
    for step in STEPS:
        store.start_step(identity, step, 2, made_by=TryStart(task="dispatch"))
        store.step_succeeded(identity.dispatch_id, step, 2, rows=5)
    page = client.page(f"dispatches/{identity.dispatch_id}").text
    found = re.findall(r'href="([^"]*/tasks/[^"]*)"', page)
    assert found == ["../../dags/whole/runs/r1/tasks/dispatch?try_number=2"] * 4


def test_predictions_are_read_from_the_sink(client: Client, story: Story) -> None:
    part = client.page(f"dispatches/{story.second}?part=predictions").text
    assert "12 of its 12 rows in told_predictions" in part
    found = client.get(f"api/v1/dispatches/{story.second}/predictions").json
    assert found["columns"][:2] == ["id", "prediction"]
    assert len(found["rows"]) == 12
    assert {row[found["columns"].index("dispatch_id")] for row in found["rows"]} == {story.second}


def test_predictions_that_were_replaced_are_said_to_be(client: Client, story: Story) -> None:
    assert "later dispatches replaced them" in client.page(f"dispatches/{story.first}?part=predictions").text


def test_predictions_of_a_sink_that_is_away_are_a_notice(
    client: Client, store: EventStore, workshop: Workshop
) -> None:
    workshop.add_model("sinkless", sink={"connection": "nowhere"})
    identity = new_identity("sinkless")
    store.begin(identity)
    assert (
        "not stored any predictions yet"
        in client.page(f"dispatches/{identity.dispatch_id}?part=predictions").text
    )
    store.finish(identity.dispatch_id, collected=1, predicted=1, rejected=0, persisted=1)
    page = client.page(f"dispatches/{identity.dispatch_id}?part=predictions")
    assert page.status == 200
    assert "there is no Airflow connection &#39;nowhere&#39;" in page.text
    assert client.get(f"api/v1/dispatches/{identity.dispatch_id}/predictions").status == 503
    assert client.page(f"dispatches/{identity.dispatch_id}").status == 200


def test_predictions_of_a_model_that_was_removed_are_not_found(client: Client, store: EventStore) -> None:
    identity = new_identity("removed")
    store.begin(identity)
    answer = client.get(f"api/v1/dispatches/{identity.dispatch_id}/predictions")
    assert answer.status == 404
    assert "there is no model 'removed'" in answer.json["detail"]


def test_history_has_shares_of_classes(client: Client, story: Story) -> None:
    history = client.get("api/v1/models/told/history").json
    assert [entry["dispatch"]["dispatch_id"] for entry in history] == [
        story.first,
        story.second,
        story.failed,
        story.running,
    ]
    counts = dict(history[1]["distribution"]["counts"])
    assert set(counts) <= {"stays", "leaves"}
    assert sum(counts.values()) == 12
    assert history[2]["distribution"] is None
    page = client.page("dispatches?model=told").text
    for title in ("Duration", "Rows predicted", "Share of each class"):
        assert f"<figcaption>{title}</figcaption>" in page


def test_run_is_offered_again_to_who_may(clients: dict[str, Client], story: Story) -> None:
    path = f"dispatches/of-run?dag_id=told&run_id={quote(RUN)}"
    offered = {role for role, client in clients.items() if 'id="again"' in client.page(path).text}
    assert offered == {"User", "Op", "Admin"}


def test_run_leads_to_its_dispatch(client: Client, story: Story) -> None:
    for spelling in (quote(RUN), RUN):  # Airflow fills in the id as it is, with a bare plus sign
        page = client.page(f"dispatches/of-run?dag_id=told&run_id={spelling}").text
        assert story.running in page
        assert "Run again" in page
        assert f'href="../../dags/told/runs/{quote(RUN, safe="")}"' in page


def test_run_without_a_dispatch_says_so(client: Client, story: Story) -> None:
    assert "has no dispatch yet" in client.page("dispatches/of-run?dag_id=told&run_id=x").text
    assert "is not a model" in client.page("dispatches/of-run?dag_id=elsewhere&run_id=x").text


def test_dag_that_is_no_model_has_an_empty_tab(client: Client) -> None:
    assert "There is no model “elsewhere”" in client.page("dispatches?model=elsewhere").text


@pytest.mark.parametrize(
    "path", ["dispatches/gone", "api/v1/dispatches/gone", "dispatches/%00", "dispatches/a%2Fb"]
)
def test_dispatch_that_is_not_there_is_not_found(client: Client, path: str) -> None:
    assert client.get(path).status == 404


def test_list_of_a_model_with_a_cursor_says_up_to_where_it_has_read(
    client: Client, workshop: Workshop
) -> None:
    query = "SELECT id, a, b, c FROM customers"
    workshop.add_model("incremental", source={"query": query, "cursor": {"column": "id"}})
    before = client.page("dispatches?model=incremental").text
    assert "Column id: no watermark yet; the first dispatch starts at the first row." in before
    dispatch = run(workshop, "incremental")
    after = client.page("dispatches?model=incremental").text
    assert re.search(rf"Column id: read up to \d+, since .* by dispatch {dispatch.id}\.", after)
    assert "Reads only what is new" not in client.page("dispatches").text
