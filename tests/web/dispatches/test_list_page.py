"""The list of dispatches as its page shows it, drawn over a real event store without Airflow."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser
from starlette.requests import Request

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.events import tables
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.records import DispatchRecord, Origin, State
from mlops_plugin.events.store import EventStore
from mlops_plugin.web.charts import Chart
from mlops_plugin.web.dispatches.lines import count_states, measure_lines, present_line
from mlops_plugin.web.dispatches.listing import (
    SORTED_AT_MOST,
    ListQuery,
    SortKey,
    columns_of,
    read_listing,
)
from mlops_plugin.web.languages.catalogues import LANGUAGES
from mlops_plugin.web.languages.translation import speaking
from mlops_plugin.web.pages import Pages
from support.event_stories import new_identity
from support.event_tables import make_tables
from web.conftest import drawn_page

START = datetime(2026, 1, 1, tzinfo=UTC)
Fill = Callable[..., list[DispatchRecord]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    address = StoreAddress.of(EventsConfig(), None, tmp_path)
    make_tables(address)
    with EventStore(address) as store:
        yield store


@pytest.fixture
def fill(store: EventStore) -> Fill:
    """Dispatches by what they differ in, one an hour, oldest first."""
    identity = new_identity("churn")
    store.begin(identity)
    sample = store.get(identity.dispatch_id)
    assert sample is not None

    def add(*differences: dict[str, Any]) -> list[DispatchRecord]:
        records = []
        for n, changes in enumerate(differences):
            at = START + timedelta(hours=n)
            usual: dict[str, Any] = {
                "dispatch_id": f"d{n:05d}",
                "state": "succeeded",
                "created_at": at,
                "updated_at": at,
                "finished_at": at + timedelta(seconds=9),
            }
            records.append(replace(sample, **(usual | changes)))
        with store.address.create_engine().execution_options(writes=True).begin() as connection:
            connection.execute(sa.delete(tables.dispatches))
            connection.execute(sa.insert(tables.dispatches), [asdict(record) for record in records])
        return records

    return add


def asking(**values: Any) -> ListQuery:
    return ListQuery.model_validate(values)


def drawn(store: EventStore, **asked_for: Any) -> str:
    """The part of the page that refreshes."""
    return _render("dispatches/list.html", _values(store, asking(**asked_for)))


def whole_page(store: EventStore, charts: Sequence[Chart] = ()) -> str:
    """The page without a filter."""
    asked = asking()
    rest = {
        "models": ["churn"],
        "states": get_args(State),
        "origins": get_args(Origin),
        "is_known": True,
        "charts": charts,
        "mark": None,
        "fragment": asked.link("dispatches", part="list"),
        "export": asked.export_link,
        "reset": "dispatches",
        "every_s": 30,
    }
    return _render("dispatches/page.html", _values(store, asked) | rest)


def _render(template: str, values: dict[str, Any]) -> str:
    scope = {"type": "http", "path": "/dispatches", "root_path": "", "headers": [], "query_string": b""}
    return bytes(Pages().render(Request(scope), template, **values).body).decode()


def _values(store: EventStore, asked: ListQuery) -> dict[str, Any]:
    listing = read_listing(store, asked, asked.filter)
    return {
        "asked": asked,
        "now": START + timedelta(days=1),
        "listing": listing,
        "columns": columns_of(asked),
        "rows": [present_line(timed) for timed in listing.lines],
        "is_busy": False,
        "reason": "There are no dispatches yet.",
        "counts": count_states(partial(store.count, at_most=10_001), asked.filter),
        "with_showroom": asked.link("dispatches", origin="all"),
    }


def shown(page: str) -> list[str]:
    return re.findall(r'id="d-([^"]+)"', page)


def test_showroom_runs_are_left_out_until_they_are_asked_for(store: EventStore, fill: Fill) -> None:
    fill({"origin": "showroom", "state": "failed"}, {"origin": "scheduled"}, {"origin": "showroom"})
    page = drawn(store)
    assert shown(page) == ["d00001"]
    assert "1 dispatch, 0 running, 0 failed" in page
    assert 'href="dispatches?origin=all"' in page
    everything = drawn(store, origin="all")
    assert shown(everything) == ["d00002", "d00001", "d00000"]
    assert "3 dispatches, 0 running, 1 failed" in re.sub(r"<[^>]+>", "", everything)
    link = re.search(r'<a class="badge badge-bad" [^>]*href="([^"]+)">1 failed</a>', everything)
    assert link is not None
    assert link[1] == "dispatches?state=failed&amp;origin=all"
    assert "Show Showroom runs too" not in everything
    assert shown(drawn(store, origin="showroom")) == ["d00002", "d00000"]


@pytest.mark.parametrize(
    ("sort", "descending", "order"),
    [
        ("duration", True, ["d00001", "d00003", "d00000", "d00002"]),
        ("duration", False, ["d00000", "d00003", "d00001", "d00002"]),
        ("model", False, ["d00000", "d00003", "d00002", "d00001"]),
        ("rejected", True, ["d00002", "d00003", "d00001", "d00000"]),
    ],
)
def test_any_column_sorts_and_what_has_no_value_comes_last(
    store: EventStore, fill: Fill, sort: SortKey, descending: bool, order: list[str]
) -> None:
    def after(hours: int, seconds: int) -> datetime:
        return START + timedelta(hours=hours, seconds=seconds)

    fill(
        {"model": "a", "finished_at": after(0, 1), "rows_rejected": None},
        {"model": "c", "finished_at": after(1, 60), "rows_rejected": 0},
        {"model": "b", "finished_at": None, "rows_rejected": 7},
        {"model": "b", "finished_at": after(3, 30), "rows_rejected": 1},
    )
    page = drawn(store, sort=sort, descending=descending)
    assert shown(page) == order
    ((state, link, words),) = re.findall(r'aria-sort="(\w+)"><a href="([^"]+)"[^>]*>([^<]+)<', page)
    assert (state, words.lower()) == ("descending" if descending else "ascending", sort)
    assert ("descending=true" in link) is not descending  # a second click turns it round


def test_sorted_pages_follow_one_another(store: EventStore, fill: Fill) -> None:
    fill(*({"rows_collected": n * 7 % 5} for n in range(5)))
    whole = shown(drawn(store, sort="collected"))
    first = drawn(store, sort="collected", limit=2)
    assert shown(first) == whole[:2]
    assert 'href="dispatches?limit=2&amp;sort=collected&amp;skip=2" id="older"' in first
    second = drawn(store, sort="collected", limit=2, skip=2)
    assert shown(second) == whole[2:4]
    assert 'href="dispatches?limit=2&amp;sort=collected" id="newer"' in second
    assert 'id="older"' not in drawn(store, sort="collected", limit=2, skip=4)


def test_sorting_reads_the_newest_thousand_and_says_so(store: EventStore, fill: Fill) -> None:
    fill(*({"rows_collected": -n} for n in range(SORTED_AT_MOST + 1)))
    page = drawn(store, sort="collected", descending=True, limit=1)
    assert shown(page) == ["d00001"]  # the largest, d00000, is the oldest of 1,001
    assert "Sorted among the newest 1,000" in page
    assert "Sorted among" not in drawn(store, limit=1)


def test_a_time_is_relative_and_has_the_exact_one_on_hover(store: EventStore, fill: Fill) -> None:
    fill({})
    assert (
        '<time datetime="2026-01-01T00:00:00+00:00" title="2026-01-01 00:00:00 UTC" data-ago="86400">'
        "1 d ago</time>" in drawn(store)
    )


def test_time_between_tries_is_no_duration(store: EventStore) -> None:
    identity = new_identity("churn")
    store.begin(identity)
    store.step_started(identity.dispatch_id, "collect", 1)
    store.step_failed(identity.dispatch_id, "collect", 1, error="no route", is_final=False)
    store.step_started(identity.dispatch_id, "collect", 2)
    store.step_succeeded(identity.dispatch_id, "collect", 2, rows=1)
    store.finish(identity.dispatch_id, collected=1, predicted=1, rejected=0, persisted=1)
    hours = timedelta(hours=3)
    event, dispatch = tables.events.c, tables.dispatches.c
    is_before_the_second_try = (event.try_number == 1) | (event.step.is_(None) & (event.kind == "started"))
    with store.address.create_engine().execution_options(writes=True).begin() as connection:
        for column, row, found in (
            (event.at, event.id, sa.select(event.id, event.at).where(is_before_the_second_try)),
            (dispatch.created_at, dispatch.dispatch_id, sa.select(dispatch.dispatch_id, dispatch.created_at)),
        ):
            for key, at in connection.execute(found).all():
                values = {column.name: at - hours}
                connection.execute(sa.update(column.table).where(row == key).values(values))
    (timed,) = read_listing(store, asking(), asking().filter).lines
    assert timed.line.seconds is not None
    assert timed.line.seconds > 3 * 3600
    assert timed.seconds is not None
    assert timed.seconds < 60
    assert "Without 3 h between tries" in drawn(store)


def test_a_dispatch_that_waits_for_its_second_try_takes_no_longer_meanwhile(store: EventStore) -> None:
    identity = new_identity("churn")
    store.begin(identity)
    store.step_started(identity.dispatch_id, "collect", 1)
    store.step_failed(identity.dispatch_id, "collect", 1, error="no route", is_final=False)
    lines = store.page(asking().filter)
    (timed,) = measure_lines(store, lines, store.now() + timedelta(hours=5))
    assert timed.seconds is not None
    assert timed.seconds < 60
    assert timed.idle > 4 * 3600


def test_an_empty_list_says_so(store: EventStore) -> None:
    page = drawn(store)
    assert "There are no dispatches yet." in page
    assert "<table" not in page


WIDE = {
    "model": "a_model_with_quite_a_long_name_as_teams_like_them",
    "requested_by": "somebody.with.a.name@example.org",
    "dag_id": "a_model",
    "run_id": "scheduled__2026-01-01T00:00:00+00:00",
    "data_interval_start": START,
    "data_interval_end": START + timedelta(hours=1),
    "rows_collected": 12_345_678,
    "rows_predicted": 12_345_678,
    "rows_rejected": 1_234_567,
    "rows_persisted": 12_345_678,
    "dry_run": True,
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_column_is_hidden_at_1200_pixels(
    store: EventStore, fill: Fill, browser: Browser, language: str
) -> None:
    fill(WIDE, {**WIDE, "state": "failed", "error": "no route to host " * 20})
    with speaking(language):
        html = whole_page(store)
    with drawn_page(browser, html, width=1200 - 70) as page:  # beside Airflow's navigation
        table = page.locator(".table")
        assert table.evaluate("table => table.scrollWidth <= table.clientWidth")
        assert page.locator("thead th").last.inner_text() == "Airflow"


@pytest.mark.parametrize("width", [700, 400])
def test_a_dispatch_is_a_card_where_its_columns_have_no_room(
    store: EventStore, fill: Fill, browser: Browser, width: int
) -> None:
    fill({}, WIDE)
    with drawn_page(browser, whole_page(store), width=width) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        card = page.locator("tbody tr").first
        for cell in card.locator("td").all():
            box = cell.bounding_box()
            assert box is not None
            assert 0 <= box["x"] <= box["x"] + box["width"] <= width
            assert cell.evaluate("cell => cell.scrollWidth <= cell.clientWidth")
        label = card.locator("td[data-label=Collected]").evaluate(
            "cell => getComputedStyle(cell, '::before').content"
        )
        assert label == '"Collected"'
        assert page.get_by_role("table").count() == 1  # for screen readers it is a table all the same
        assert page.get_by_role("columnheader").count() == 11


@pytest.mark.parametrize("width", [1300, 700, 400])
def test_nothing_moves_while_the_list_loads(
    store: EventStore, fill: Fill, browser: Browser, width: int
) -> None:
    fill(WIDE, {}, {**WIDE, "state": "failed", "error": "no route to host"})
    with drawn_page(browser, whole_page(store), width=width) as page:
        assert page.locator("tbody tr").count() == 4
        assert page.evaluate("shifts") == []
        assert page.locator("time[data-ago]").first.inner_text() == "22 h ago"
        assert "2026" in str(page.locator("time[data-ago]").first.get_attribute("title"))


def test_links_carry_the_filter_the_order_and_nothing_that_is_usual() -> None:
    assert asking().link("dispatches") == "dispatches"
    asked = asking(model="churn", origin="all", sort="duration", descending=True, skip=50)
    assert asked.link("dispatches") == (
        "dispatches?model=churn&origin=all&sort=duration&descending=true&skip=50"
    )
    assert asked.export_link == "api/v1/dispatches.csv?model=churn"
    assert asking(model="churn").export_link == "api/v1/dispatches.csv?model=churn&origin=operations"
    assert asking(origin="").origin == "operations"  # as a form sends it
