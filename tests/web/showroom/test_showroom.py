"""The Showroom on a real API server: over HTTP, and in a real browser inside of Airflow's own page."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, FrameLocator, Page, expect

from mlops_plugin.events.records import DispatchRecord
from support.airflow_process import RunningAirflow
from web.conftest import Client, signed_in, without_errors

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

MODEL = "api/v1/showroom/models/churn"


def _record(airflow: RunningAirflow, dispatch_id: str) -> DispatchRecord:
    with airflow.workshop.entered():
        record = _stored(airflow, dispatch_id)
    assert record is not None
    return record


def _stored(airflow: RunningAirflow, dispatch_id: str) -> DispatchRecord | None:
    with airflow.workshop.deployment.event_store() as store:
        return store.get(dispatch_id)


def test_models_are_listed_and_found(client: Client) -> None:
    page = client.page("showroom")
    assert page.status == 200
    assert 'href="showroom/churn"' in page.text
    assert "No model matches" in client.page("showroom?search=nothing%20like%20it").text
    assert [model["name"] for model in client.get("api/v1/showroom/models").json] == ["churn"]


def test_a_card_says_how_the_last_dispatch_ended(client: Client, web_airflow: RunningAirflow) -> None:
    with web_airflow.workshop.entered():
        dispatch = web_airflow.workshop.dispatch()
        web_airflow.workshop.run(dispatch)
    link = f'href="dispatches/{dispatch.id}"'
    web_airflow.wait(lambda: link in client.page("showroom").text, "the dispatch on the card of its model")
    page = client.page("showroom").text
    assert re.search(r'badge-ok">succeeded</span> <a ' + link, page)
    assert 'href="dispatches?model=churn"' in page
    assert 'aria-label="the last dispatch: 1 succeeded; 5 rows predicted last"' in page
    # There is no scheduler: one word of health, and why.
    why = 'title="Airflow has not read its DAG yet'
    assert re.search(rf'badge-bad" href="monitor\?search=churn" {why}[^"]*">broken</a>', page)


def test_cases_are_shown_with_their_number_and_their_last_prediction(
    client: Client, web_airflow: RunningAirflow
) -> None:
    with web_airflow.workshop.entered():
        dispatch = web_airflow.workshop.dispatch()
        web_airflow.workshop.run(dispatch)
    stored = {row["id"]: row["prediction"] for row in web_airflow.workshop.predictions()}
    found = client.get("showroom/churn/last-predictions?search=2").json
    assert {key: (one["words"], one["dispatch"]) for key, one in found.items()} == {
        '["2"]': (stored[2], dispatch.id)
    }
    assert len(client.get("showroom/churn/last-predictions").json) == 5
    assert client.page("showroom/churn/count?search=2").text == "1 case"
    page = client.page("showroom/churn?search=2").text
    assert '">1 case</span>' in page
    assert html.unescape(page).count('data-ask="../showroom/churn/last-predictions?search=2"') == 1


def test_a_page_is_as_long_as_one_asks_for_and_its_links_too(client: Client) -> None:
    page = html.unescape(client.page("showroom/churn?page_rows=2").text)
    assert page.count('type="checkbox" name="key"') == 2
    assert 'href="?page_rows=2&after=' in page
    assert "<option selected>2</option>" in page
    assert client.page("showroom/churn?page_rows=201").status == 422


def test_cases_are_shown_key_first(client: Client) -> None:
    page = client.page("showroom/churn")
    assert page.status == 200
    assert page.text.count('type="checkbox" name="key"') == 5
    assert page.text.index(">key<") < page.text.index("sort=a")
    found = client.get(f"{MODEL}/cases?page_rows=2&sort=id&descending=true").json
    assert [row["id"] for row in found["rows"]] == [5, 4]
    assert found["columns"] == ["id", "a", "b", "c"]
    assert found["previous"] is None
    rest = client.get(f"{MODEL}/cases?page_rows=2&sort=id&descending=true&after={quote(found['next'])}").json
    assert rest["rows"][0]["id"] < found["rows"][-1]["id"]
    assert rest["previous"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("showroom/nothing", 404),
        ("showroom/nothing/what-if?key=[1]", 404),
        ("showroom/churn/what-if?key=nonsense", 422),
        ("showroom/churn/what-if?key=[99]", 422),
        (f"{MODEL}/cases?sort=no%22such", 422),
        (f"{MODEL}/cases?after=2", 422),
    ],
)
def test_a_request_that_makes_no_sense_is_told_so(client: Client, path: str, status: int) -> None:
    assert client.page(path).status == status


def test_what_is_searched_for_is_escaped(client: Client) -> None:
    page = client.page("showroom/churn?search=%3Cscript%3Ealert(1)%3C/script%3E")
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert" in page.text


def test_a_run_answers_and_is_on_record(client: Client, web_airflow: RunningAirflow) -> None:
    answer = client.post(f"{MODEL}/runs", {"keys": [[1], ["2"]]})
    assert answer.status == 200, answer.text
    assert [row["id"] for row in answer.json["predictions"]] == [1, 2]
    assert [step["step"] for step in answer.json["steps"]] == ["collect", "log", "infer", "persist"]
    record = _record(web_airflow, answer.json["dispatch_id"])
    assert (record.origin, record.requested_by, record.state) == ("showroom", "admin", "succeeded")
    assert record.artifact_sha256 == answer.json["artifact_sha256"]


def test_rows_of_a_request_are_predicted(client: Client) -> None:
    answer = client.post(f"{MODEL}/runs", {"rows": [{"a": 5, "b": 5, "c": 0}]})
    assert answer.json["predictions"][0]["prediction"] == "stays"
    assert answer.json["predictions"][0]["probability_stays"] > 0.9


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "send either keys of cases or rows"),
        ({"keys": [[1]], "rows": [{"a": 1}]}, "send either keys of cases or rows"),
        ({"keys": [[77]]}, "77"),
        ({"rows": [{"a": 1}]}, "lack 2 of the model's 3 features"),
        ({"rows": [{"a": 1, "b": "text", "c": 1}]}, "'b' is string"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_request_over_the_api_is_refused_with_a_reason(
    client: Client, body: dict[str, Any], said: str
) -> None:
    answer = client.post(f"{MODEL}/runs", body)
    assert answer.status == 422
    assert said in answer.json["detail"]


def test_a_form_shows_the_result_without_a_script(client: Client) -> None:
    answer = client.submit("showroom/churn/run", [("key", "[1]"), ("key", "[2]")])
    assert answer.status == 200
    assert answer.text.count("<article") == 2
    assert answer.text.count('data-state="succeeded"') == 4
    shares = [float(value) for value in re.findall(r'<progress max="1" value="([\d.e-]+)"', answer.text)]
    assert shares[0] >= shares[1]
    assert sum(shares[:2]) == pytest.approx(1)


def test_a_form_without_a_case_says_so_on_the_page(client: Client) -> None:
    answer = client.submit("showroom/churn/run", [])
    assert answer.status == 422
    assert "no case is chosen" in html.unescape(answer.text)


def test_steps_are_streamed_as_they_happen(client: Client) -> None:
    answer = client.submit("showroom/churn/run", [("key", "[3]")], "application/x-ndjson")
    news = [json.loads(line) for line in answer.text.splitlines()]
    steps = [(one["step"], one["state"]) for one in news if "step" in one]
    assert steps == [
        (step, state) for step in ("collect", "log", "infer", "persist") for state in ("started", "succeeded")
    ]
    assert "<article" in news[-1]["html"]


def test_a_streamed_run_that_fails_ends_with_the_reason(client: Client) -> None:
    answer = client.submit("showroom/churn/run", [("key", "[77]")], "application/x-ndjson")
    news = [json.loads(line) for line in answer.text.splitlines()]
    assert ("collect", "failed") in [(one.get("step"), one.get("state")) for one in news]
    assert "77" in news[-1]["html"]


def test_what_if_changes_only_what_was_changed(client: Client) -> None:
    page = client.page("showroom/churn/what-if?key=[4]").text
    fields = dict(re.findall(r'name="was\.(\w)" value="([^"]*)"', page))
    assert set(fields) == {"a", "b", "c"}
    assert "median" in page
    form = [("key", "[4]")]
    for name, value in fields.items():
        form += [(f"was.{name}", value), (f"set.{name}", "50" if name == "b" else value)]
    answer = client.submit("showroom/churn/run", form)
    assert answer.text.count("<article") == 1
    assert re.findall(r"<li>(\w): [^<]*→ <strong>50</strong>", answer.text) == ["b"]
    assert '<p class="prediction">stays</p>' in answer.text
    values = [("curve", "a"), ("curve.value", "0"), ("curve.value", "60")]
    bars = client.submit("showroom/churn/run", [*form, *values]).text
    assert re.findall(r'<th scope="row">([\d.]+)</th><td class="meter"><svg class="category"', bars) == [
        "0",
        "60",
    ]
    wrong = client.submit("showroom/churn/run", [*form, ("curve", "a"), ("curve.value", "x")])
    assert wrong.status == 422


def test_why_leads_to_a_page_that_shows_what_is_stored(clients: dict[str, Client]) -> None:
    answer = clients["User"].submit("showroom/churn/why", [("key", "[4]")])
    assert answer.status == 200
    assert "exact Shapley values" in answer.text
    assert "of the first 5 cases, not the training data" in answer.text
    (dispatch,) = re.findall(r'href="[^"]*dispatches/([0-9a-f-]{36})"', answer.text)
    assert "why: the case, then with one feature" in clients["Viewer"].page(f"dispatches/{dispatch}").text
    assert f'href="../showroom/churn/why/{dispatch}"' in clients["Viewer"].page(f"dispatches/{dispatch}").text
    shared = clients["Viewer"].page(f"showroom/churn/why/{dispatch}")
    assert shared.text == answer.text
    assert f"{clients['Viewer'].root}showroom/churn/why/{dispatch}</span>" in shared.text
    amounts = [
        float(text) for text in re.findall(r'</th>\s*<td class="number">([+-][\d.]+)</td>', shared.text)
    ]
    assert len(amounts) == 3
    assert [abs(amount) for amount in amounts] == sorted(map(abs, amounts), reverse=True)
    reference, added, value = (
        float(text) for text in re.findall(r"<strong>([+-]?[\d.]+)</strong></span>", shared.text)
    )
    assert reference + added == pytest.approx(value, abs=0.002)  # as they are rounded
    assert sum(amounts) == pytest.approx(added, abs=0.002)


def test_only_a_run_that_explains_this_model_has_a_page_of_reasons(client: Client) -> None:
    plain = client.post(f"{MODEL}/runs", {"keys": [[1]]}).json["dispatch_id"]
    for dispatch in (plain, "nothing"):
        assert client.page(f"showroom/churn/why/{dispatch}").status == 404


def test_results_download_as_csv(client: Client) -> None:
    answer = client.submit("showroom/churn/run", [("key", "[1]"), ("key", "[2]")])
    found = re.search(r'href="data:text/csv;charset=utf-8;base64,([^"]+)"', answer.text)
    assert found is not None
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(html.unescape(found[1])).decode())))
    assert [row["id"] for row in rows] == ["1", "2"]
    assert {"dispatch_id", "a", "prediction", "probability_stays"} <= set(rows[0])


def test_the_copied_command_is_the_same_request(client: Client) -> None:
    answer = client.submit("showroom/churn/run", [("key", "[2]")])
    found = re.search(r'id="curl">(.*?)</pre>', answer.text, re.DOTALL)
    assert found is not None
    words = [word for word in shlex.split(html.unescape(found[1])) if word.strip()]
    assert words[:2] == ["curl", "-sS"]
    assert words[2] == client.root + f"{MODEL}/runs"
    again = client.post(f"{MODEL}/runs", json.loads(words[words.index("-d") + 1]))
    assert [row["id"] for row in again.json["predictions"]] == [2]


def test_the_models_state_is_shown(client: Client) -> None:
    client.post(f"{MODEL}/runs", {"keys": [[1]]})
    assert "model ready" in client.page("showroom/churn/state").text
    assert client.get("api/v1/showroom/models").json[0]["state"] == "ready"


UNTIL_COPIED = """async (text) => {
  const pause = () => new Promise((resume) => { setTimeout(resume, 50); });
  while (await navigator.clipboard.readText() !== text) await pause();
}"""


@pytest.fixture
def page(web_airflow: RunningAirflow, browser: Browser) -> Iterator[Page]:
    """A page of a user who may run the Showroom."""
    with signed_in(web_airflow, browser, "user") as page, without_errors(page):
        yield page


def _showroom(page: Page) -> FrameLocator:
    """The page of the model inside of Airflow; a form is sent as it is before its scripts are at work."""
    page.goto("/plugin/mlops-showroom")
    frame = page.frame_locator("iframe")
    frame.get_by_role("link", name="churn", exact=True).click()
    expect(frame.locator("#chosen")).to_have_text("choose one or more cases")
    return frame


def _wait_for_scripts(frame: FrameLocator) -> None:
    """Of the page that is in the frame now."""
    frame.owner.element_handle().content_frame().wait_for_load_state("domcontentloaded")  # type: ignore[union-attr]


def test_a_run_shows_its_steps_and_its_result(page: Page) -> None:
    frame = _showroom(page)
    frame.get_by_role("checkbox", name="Choose case 2").check()
    frame.get_by_role("checkbox", name="Choose case 4").check()
    expect(frame.locator("#chosen")).to_have_text("2 chosen")
    frame.get_by_role("button", name="Run the chosen cases").click()
    expect(frame.locator("#result article")).to_have_count(2)
    expect(frame.locator("#steps li[data-state=succeeded]")).to_have_count(4)
    expect(frame.locator("#state")).to_contain_text("model ready")
    with page.expect_download() as download:
        frame.get_by_role("link", name="Download CSV").click()
    with download.value.path().open(encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["2", "4"]


def test_cases_are_chosen_by_row_by_range_and_all_at_once(page: Page) -> None:
    page.goto("/mlops/showroom/churn")
    chosen, case = page.locator("#chosen"), page.get_by_role("checkbox", name="Choose case")
    page.get_by_role("cell", name="2", exact=True).first.click()
    expect(case.nth(1)).to_be_checked()
    page.get_by_role("row").nth(4).click(modifiers=["Shift"])
    expect(chosen).to_have_text("3 chosen")
    case.nth(2).uncheck()
    expect(chosen).to_have_text("2 chosen")
    page.get_by_role("checkbox", name="Choose all cases of this page").check()
    expect(chosen).to_have_text("5 chosen")
    page.set_viewport_size({"width": 700, "height": 320})
    expect(page.get_by_role("button", name="Run the chosen cases")).to_be_in_viewport()


def test_from_a_result_to_why_and_to_what_if(page: Page) -> None:
    frame = _showroom(page)
    frame.get_by_role("checkbox", name="Choose case 3").check()
    frame.get_by_role("button", name="Run the chosen cases").click()
    frame.get_by_role("button", name="Why?").click()
    expect(frame.get_by_role("heading", name="Why? id 3")).to_be_visible()
    expect(frame.locator("tbody tr")).to_have_count(3)
    link = frame.locator("#why-link").text_content()
    assert link
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    _wait_for_scripts(frame)
    frame.get_by_role("button", name="Copy the link to this page").click()
    page.evaluate(UNTIL_COPIED, link)
    page.go_back()
    # The result is there again.
    frame.get_by_role("link", name="What if").click()
    field, slider = frame.get_by_label("a", exact=True), frame.get_by_label("a, slider")
    as_it_is = field.input_value()
    _wait_for_scripts(frame)
    slider.press("End")
    expect(field).not_to_have_value(as_it_is)
    assert float(field.input_value()) > float(as_it_is)
    assert field.input_value() == slider.input_value()
    expect(frame.locator("#result .curve")).to_contain_text("over a")
    dispatch = frame.locator("#result [data-dispatch]").get_attribute("data-dispatch")
    field.fill("1e9")
    expect(frame.get_by_text("outside of the known range")).to_be_visible()
    frame.get_by_role("button", name="Reset").click()
    expect(field).to_have_value(as_it_is)
    field.fill("60")
    expect(frame.locator("#result .changes")).to_contain_text("60")
    expect(frame.locator("#result .prediction")).to_have_text("stays")
    frame.get_by_role("button", name="Run", exact=True).click()
    expect(frame.locator("#steps li[data-state=succeeded]")).to_have_count(4)
    # Changes that follow each other are one dispatch.
    assert frame.locator("#result [data-dispatch]").get_attribute("data-dispatch") == dispatch


def test_an_error_stands_on_the_page_and_the_next_run_works(page: Page) -> None:
    frame = _showroom(page)
    frame.get_by_role("button", name="Run the chosen cases").click()
    expect(frame.locator("#result [role=alert]")).to_contain_text("Choose at least one case")
    frame.get_by_role("checkbox", name="Choose case 1").check()
    frame.get_by_role("button", name="Run the chosen cases").click()
    expect(frame.locator("#result article")).to_have_count(1)


def test_a_narrow_page_scrolls_down_only(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    for path in (
        "showroom",
        "showroom/churn",
        "showroom/churn/what-if?key=[1]",
    ):
        page.goto(f"/mlops/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, path


def test_the_page_follows_the_dark_theme(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto("/mlops/showroom/churn")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"
