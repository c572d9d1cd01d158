"""The Monitor's page over what is known: counts, search, order and groups, drawn without Airflow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser
from starlette.requests import Request

from mlops_plugin.monitoring.model_state import ModelWord
from mlops_plugin.web.languages.catalogues import LANGUAGES
from mlops_plugin.web.languages.translation import speaking
from mlops_plugin.web.monitor.listing import MonitorQuery, shown_values
from mlops_plugin.web.monitor.records import LastDispatch, ModelStatus, MonitorStatus, ProbeStatus
from mlops_plugin.web.pages import Pages
from web.conftest import drawn_page

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def model(name: str, state: ModelWord = "ok", hours: int | None = None, **changes: Any) -> ModelStatus:
    """A model that was dispatched so many hours ago."""
    last = None
    if hours is not None:
        at = NOW - timedelta(hours=hours)
        last = LastDispatch(dispatch_id=f"d-{name}", state="succeeded", at=at, error=None)
    values: dict[str, Any] = {
        "name": name,
        "state": state,
        "why": "why",
        "schedule": "hourly",
        "tags": [],
        "owner": "mlops",
        "is_paused": False,
        "may_pause": True,
        "may_trigger": True,
        "last": last,
        "next_at": None,
        "next_in": None,
    }
    return ModelStatus(**(values | changes))


def host(name: str, state: str) -> ProbeStatus:
    values: dict[str, Any] = {"id": name, "kind": "host", "name": name, "address": name, "state": state}
    unknown: dict[str, Any] = {"at": None, "seconds": None, "availability": None}
    return ProbeStatus(**values, **unknown, is_probing=False, day=[None] * 24, steps=[])


MODELS = [
    model("churn", "ok", hours=3, tags=["weekly", "crm"], owner="crm team"),
    model("fraud", "late", hours=30, tags=["crm"]),
    model("<b>wine", "ok"),
    model("digits", "failed", hours=1, owner="vision"),
]


def drawn(
    models: Sequence[ModelStatus] = MODELS,
    hosts: Sequence[ProbeStatus] = (),
    ahead: timedelta = timedelta(0),
    **asked: Any,
) -> str:
    """The page of a server whose clock is so far behind that of the event store."""
    status = MonitorStatus(
        at=NOW - ahead,
        store_at=NOW,
        refresh_seconds=10,
        models=list(models),
        hosts=list(hosts),
        databases=[],
        problem=None,
    )
    scope = {"type": "http", "path": "/monitor", "root_path": "", "headers": [], "query_string": b""}
    values = shown_values(status, MonitorQuery.model_validate(asked))
    return bytes(Pages().render(Request(scope), "monitor/page.html", **values).body).decode()


def listed(page: str) -> list[str]:
    """The models in order, each as often as it is listed."""
    return re.findall(r'data-dag="([^"]+)"', page)


def summary(page: str) -> list[str]:
    strip = page.split('aria-label="Summary"')[1].split("</nav>")[0]
    return re.findall(r">(\d+ [\w ]+)</a>", strip)


def test_the_summary_counts_every_state_and_each_count_leads_to_its_models() -> None:
    page = drawn(hosts=[host("a", "up"), host("b", "down"), host("c", "up")])
    assert summary(page) == ["2 ok", "1 late", "1 failed", "2 up", "1 down"]
    assert 'href="monitor?state=late">1 late<' in page
    late = drawn(state="late")
    assert listed(late) == ["fraud"]
    assert summary(late) == ["2 ok", "1 late", "1 failed"]  # of all models, whatever is shown
    assert 'href="monitor" aria-current="true"' in late


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("fra", ["fraud"]),
        ("CRM", ["churn", "fraud"]),
        ("crm week", ["churn"]),
        ("vision", ["digits"]),
        ("", ["churn", "fraud", "&lt;b&gt;wine", "digits"]),
        ("nothing like it", []),
    ],
)
def test_search_looks_into_names_tags_and_owners(search: str, found: list[str]) -> None:
    page = drawn(search=search)
    assert listed(page) == found
    assert ("No model matches." in page) is not bool(found)


@pytest.mark.parametrize(
    ("asked", "order"),
    [
        ({"sort": "state"}, ["fraud", "digits", "churn", "&lt;b&gt;wine"]),
        ({"sort": "name"}, ["&lt;b&gt;wine", "churn", "digits", "fraud"]),
        ({"sort": "last"}, ["fraud", "churn", "digits", "&lt;b&gt;wine"]),
        ({"sort": "last", "descending": True}, ["digits", "churn", "fraud", "&lt;b&gt;wine"]),
    ],
)
def test_a_column_sorts_and_what_has_no_value_comes_last(asked: dict[str, Any], order: list[str]) -> None:
    assert listed(drawn(**asked)) == order


def test_groups_have_counts_and_a_model_is_in_the_group_of_each_tag() -> None:
    page = drawn(group="tag")
    titles = re.findall(r'class="group"><th[^>]*>(.*?) <span class="hint">(.*?)</span>', page)
    assert titles == [("crm", "1 ok, 1 late"), ("weekly", "1 ok"), ("no tag", "1 ok, 1 failed")]
    assert listed(page) == ["churn", "fraud", "churn", "&lt;b&gt;wine", "digits"]
    ids = re.findall(r'id="(switch-[^"]+)"', page)
    assert len(ids) == len(set(ids)) == 5
    owners = re.findall(r'class="group"><th[^>]*>(.*?) <span', drawn(group="owner"))
    assert owners == ["crm team", "mlops", "vision"]


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(hours=-2)])
def test_a_servers_wrong_clock_changes_no_age_of_a_dispatch(ahead: timedelta) -> None:
    page = drawn([model("churn", hours=3, next_at=NOW + timedelta(minutes=5))], ahead=ahead)
    assert re.findall(r"data-ago[^>]*>([^<]+)<", page) == ["3 h ago", "in 5 min"]


def test_a_refresh_asks_for_what_is_shown() -> None:
    page = drawn(search="crm", group="owner", sort="state")
    assert 'data-refresh="monitor-status?search=crm&amp;group=owner&amp;sort=state"' in page
    assert 'name="sort" value="state"' in page  # a search keeps the order
    assert MonitorQuery.model_validate({"search": "", "state": "", "group": "", "sort": ""}) == MonitorQuery()


def test_five_hundred_models_are_listed_once_each() -> None:
    models = [model(f"m{n:03d}", "ok" if n % 10 else "late", tags=[f"t{n % 7}"]) for n in range(500)]
    assert len(listed(drawn(models, group="tag"))) == 500
    assert summary(drawn(models)) == ["450 ok", "50 late"]


def test_without_models_the_page_says_where_they_come_from() -> None:
    page = drawn([])
    assert "There are no models that you may see." in page
    assert 'id="choose"' not in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_columns_keep_their_places_whatever_a_refresh_brings(browser: Browser, language: str) -> None:
    long = model("churn", "running", hours=1, why="running for 3 min; try 2 of 3 of collect, after: " * 9)
    places = []
    for models in ([model("churn")], [long]):
        with speaking(language):
            html = drawn(models)
        with drawn_page(browser, html, width=1130) as page:
            heads = page.locator(".of-models th[scope=col]").all()
            places.append([head.evaluate("head => head.getBoundingClientRect().x") for head in heads])
            fits = "table => table.scrollWidth <= table.clientWidth"
            assert page.locator(".table").first.evaluate(fits)
    assert places[0] == places[1]


@pytest.mark.parametrize(("language", "width"), [*((language, 400) for language in LANGUAGES), ("pt", 700)])
def test_the_switch_is_in_view_on_a_phone(browser: Browser, language: str, width: int) -> None:
    models = [model("a_model_with_quite_a_long_name_as_teams_like_them", hours=1)]
    with speaking(language):
        html = drawn(models)
    with drawn_page(browser, html, width=width) as page:
        card = page.locator(".of-models tbody tr").bounding_box()
        switch = page.get_by_role("switch").bounding_box()
        assert card is not None
        assert switch is not None
        assert card["x"] < switch["x"] < switch["x"] + switch["width"] < card["x"] + card["width"] <= width
        assert switch["y"] - card["y"] < 20
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [1300, 700, 400])
def test_nothing_moves_while_the_monitor_loads(browser: Browser, width: int) -> None:
    hosts = [host("a.example", "up"), host("b.example", "down")]
    with drawn_page(browser, drawn(MODELS, hosts, group="tag"), width=width) as page:
        assert page.evaluate("shifts") == []
        page.evaluate("document.querySelector('.summary').style.marginTop = '90px'")
        page.wait_for_function("shifts.length > 0")  # what moves is seen
