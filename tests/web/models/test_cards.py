"""The cards of models: small charts, one word of health, and nothing of a model that one may not see."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.events import tables
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.latest import RecentDispatch
from mlops_plugin.events.records import State
from mlops_plugin.events.store import EventStore
from mlops_plugin.monitoring.watch import LastDispatches
from mlops_plugin.web.languages.catalogues import LANGUAGES
from mlops_plugin.web.languages.translation import speaking
from mlops_plugin.web.models.cards import RECENT, Card, CardHealth, CardRights, cards_of, read_last, store_now
from mlops_plugin.web.models.sparkline import describe_recent, sparkline
from mlops_plugin.workers.pool import Loading
from support.event_stories import new_identity
from support.event_tables import make_tables
from support.workshop import Workshop
from web.conftest import drawn_page, rendered, without_errors
from web.scene import violations

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODELS = 500


def recent(*found: tuple[State, int | None]) -> list[RecentDispatch]:
    """Dispatches an hour apart, the newest last."""
    return [
        RecentDispatch(f"d{n}", state, NOW + timedelta(hours=n), rows)
        for n, (state, rows) in enumerate(found)
    ]


def card(name: str, found: Sequence[RecentDispatch] = (), **changes: Any) -> Card:
    values: dict[str, Any] = {
        "name": name,
        "title": name.capitalize(),
        "description": f"What is known of {name}?",
        "tags": ["demo", "crm"],
        "loading": Loading("absent"),
        "sparkline": sparkline(found, RECENT) if found else None,
        "health": CardHealth(
            "healthy", "its last dispatch succeeded", f"monitor?search={name}", is_alarming=False
        ),
    }
    return Card(**(values | changes))


def drawn(
    cards: Sequence[Card],
    *,
    is_read: bool = True,
    problem: str | None = None,
    sees_dispatches: bool = True,
) -> str:
    return rendered(
        "models/list.html",
        models=cards,
        broken=[],
        search="",
        total=len(cards),
        now=NOW,
        sees_dispatches=sees_dispatches,
        sees_monitor=True,
        is_read=is_read,
        problem=problem,
    )


def test_a_small_chart_has_a_bar_for_each_dispatch_as_high_as_its_rows() -> None:
    found = recent(
        ("succeeded", 100), ("failed", None), ("succeeded", 50), ("succeeded", 0), ("running", None)
    )
    drawing = str(sparkline(found, 20))
    bars = {
        look: [int(height) for height in re.findall(r"v-(\d+)", path)]
        for look, path in re.findall(r'<path class="(\w+)" d="([^"]+)"', drawing)
    }
    assert bars == {"good": [28, 14, 2], "bad": [28], "busy": [2]}
    assert re.findall(r"M(\d+) ", drawing)[-1] == "156"  # the newest stands at the right end
    assert (
        describe_recent(found)
        == "the last 5 dispatches: 3 succeeded, 1 failed, running; 0 rows predicted last"
    )
    assert f'aria-label="{describe_recent(found)}"' in drawing
    assert describe_recent(recent(("failed", None))) == "the last dispatch: 1 failed"


LONG_LIVED = (0, 99, 100, 499)


def count_of(model: int) -> int:
    """So many dispatches it has, without those of the Showroom."""
    return 25 if model in LONG_LIVED else 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EventStore:
    """Of each model two dispatches, of some 25, and as many of the Showroom after them."""
    address = StoreAddress.of(EventsConfig(), None, tmp_path_factory.mktemp("cards"))
    make_tables(address)
    store = EventStore(address)
    identity = new_identity("m0")
    store.begin(identity)
    sample = store.get(identity.dispatch_id)
    assert sample is not None
    rows = [
        asdict(
            replace(
                sample,
                dispatch_id=f"{model}-{n}",
                model=f"m{model}",
                origin="scheduled" if n < count_of(model) else "showroom",
                state="succeeded",
                created_at=NOW + timedelta(minutes=n),
                rows_predicted=model * 100 + n,
            )
        )
        for model in range(MODELS)
        for n in range(2 * count_of(model))
    ]
    with address.create_engine().execution_options(writes=True).begin() as connection:
        connection.execute(sa.delete(tables.dispatches))
        connection.execute(sa.insert(tables.dispatches), rows)
    return store


def test_five_hundred_models_cost_a_bounded_number_of_queries(store: EventStore) -> None:
    asked: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", count)
    try:
        found = read_last(store, [f"m{model}" for model in range(MODELS)])
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", count)
    assert len(asked) <= 3 * MODELS / 100 + 1
    assert len(found.last) == len(found.recent) == MODELS
    for model in LONG_LIVED:
        assert [each.rows_predicted for each in found.recent[f"m{model}"]] == [
            model * 100 + n for n in range(5, 25)
        ]
        assert found.last[f"m{model}"].dispatch_id == f"{model}-24"


def test_the_page_of_five_hundred_models_stays_small() -> None:
    cards = [card(f"m{n}", recent(*[("succeeded", n * row) for row in range(RECENT)])) for n in range(MODELS)]
    page = drawn(cards)
    assert page.count('class="card"') == MODELS
    assert len(page) < 1_500 * MODELS + 20_000


LATE = CardHealth("late", "due 2 h ago, nothing has started", "monitor?search=fraud", is_alarming=True)
FAILING = CardHealth(
    "failing",
    "models.wine: " + "the database has closed the connection; " * 5,
    "dispatches/d7",
    is_alarming=True,
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_wrong_is_seen_with_its_reason_and_leads_to_it(browser: Browser, language: str) -> None:
    fine = recent(*[("succeeded", 90 + n) for n in range(20)])
    poor = recent(*[("failed" if n > 16 else "succeeded", 90) for n in range(20)])
    cards = [card("churn", fine), card("fraud", fine[:3], health=LATE), card("wine", poor, health=FAILING)]
    with speaking(language):
        html = drawn(cards)
        words = {"en": "failing", "pt": "falhando"}[language]
    with drawn_page(browser, html, width=1300) as page, without_errors(page):
        assert page.evaluate("shifts") == []
        badge = page.get_by_role("link", name=words, exact=True)
        assert badge.get_attribute("title") == FAILING.why
        assert badge.get_attribute("href") == "dispatches/d7"
        assert page.get_by_text("due 2 h ago").is_visible()
        for width in (1300, 700, 400):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        for scheme in ("light", "dark") if language == "en" else ():
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == []


def test_what_is_not_known_yet_is_not_called_nothing() -> None:
    assert "Not dispatched yet." in drawn([card("churn")])
    unread = drawn([card("churn")], is_read=False)
    assert "Not dispatched yet." not in unread
    assert "The event store has not answered yet." in unread
    assert "not answered" not in drawn([card("churn")])
    assert "<b>away" not in drawn([card("churn")], problem="<b>away")
    assert "&lt;b&gt;away" in drawn([card("churn")], problem="<b>away")
    assert "There are no models that you may see." in drawn([])


def test_ages_are_told_by_the_clock_of_the_event_store() -> None:
    ahead = store_now(LastDispatches({}, {}, timedelta(hours=2))) - store_now(None)
    assert abs(ahead - timedelta(hours=2)) < timedelta(seconds=30)


@pytest.mark.parametrize("dispatches", [True, False])
@pytest.mark.parametrize("monitor", [True, False])
def test_a_card_has_only_what_its_reader_may_see(
    store: EventStore, workshop: Workshop, dispatches: bool, monitor: bool
) -> None:
    workshop.add_model("churn", showroom={"truth": "truth"})
    found = read_last(store, ["m0"])
    known = LastDispatches({"churn": found.last["m0"]}, {"churn": found.recent["m0"]}, found.ahead)
    (card,) = cards_of(
        [workshop.model()],
        {},
        known,
        CardRights(dispatches=dispatches, monitor=monitor),
        late_after=timedelta(minutes=5),
        loading_of=lambda _model: Loading("absent"),
    )
    assert [card.last is not None, card.sparkline is not None, card.has_accuracy] == [dispatches] * 3
    assert (card.health is not None) is monitor
    page = drawn([card], sees_dispatches=dispatches)
    assert ("0-24" in page) is dispatches  # the last dispatch
    assert ("not read its DAG" in page) is monitor
    assert ('href="dispatches' in page) is dispatches
