"""The card of each model: how its last dispatches went, and how it is, each in one look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

from markupsafe import Markup

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.events.latest import RecentDispatch, latest_dispatches, recent_dispatches
from mlops_plugin.events.records import DispatchRecord, State
from mlops_plugin.events.store import EventStore
from mlops_plugin.events.tries import read_openings
from mlops_plugin.monitoring.health import Health, HealthWord, health_of
from mlops_plugin.monitoring.model_state import DagSeen, as_far_as_known, last_dispatch, model_state
from mlops_plugin.monitoring.watch import LastDispatches
from mlops_plugin.web.languages.translation import translate
from mlops_plugin.web.models.sparkline import sparkline
from mlops_plugin.workers.pool import Loading

RECENT = 20  # dispatches in the small chart
NOTHING_READ = LastDispatches({}, {}, timedelta(0))
# What somebody has to look at comes with its reason.
_ALARMING: tuple[HealthWord, ...] = ("late", "failing", "broken")


@dataclass(frozen=True)
class CardHealth:
    """One word with its reason; `link` leads to what explains it, a path below our root."""

    word: HealthWord
    why: str
    link: str
    is_alarming: bool


@dataclass(frozen=True)
class Card:
    """A model in the list. What the user may not see is None."""

    name: str
    title: str
    description: str
    tags: Sequence[str]
    loading: Loading
    has_accuracy: bool = False
    last: DispatchRecord | None = None
    sparkline: Markup | None = None
    health: CardHealth | None = None


@dataclass(frozen=True)
class CardRights:
    """Which views the user may see: each shows its part of a card."""

    dispatches: bool
    monitor: bool


def read_last(store: EventStore, names: Sequence[str]) -> LastDispatches:
    """A few statements for each hundred models."""
    last = latest_dispatches(store, names)
    return LastDispatches(
        last,
        recent_dispatches(store, names, each=RECENT),
        store.now() - datetime.now(UTC),
        read_openings(store, last.values()),
    )


def store_now(known: LastDispatches | None) -> datetime:
    """The time by the event store's clock, by which dispatches are dated, as far as it is known."""
    return datetime.now(UTC) + (known or NOTHING_READ).ahead


def cards_of(
    models: Iterable[ModelConfig],
    dags: Mapping[str, DagSeen],
    known: LastDispatches | None,
    rights: CardRights,
    *,
    late_after: timedelta,
    loading_of: Callable[[ModelConfig], Loading],
) -> list[Card]:
    """A card for each of the models, by title; `known` is None if the event store has not answered yet."""
    found, now = known or NOTHING_READ, store_now(known)
    cards = []
    for model in models:
        dag = dags.get(model.name)
        last = last_dispatch(dag, found.last.get(model.name))
        recent = found.recent.get(model.name, ())
        health = None
        if rights.monitor:
            opened, limit = found.opened.get(last.dispatch_id) if last else None, model.dispatch_timeout
            state = model_state(dag, last, now, late_after=late_after, limit=limit, opened_at=opened)
            state = as_far_as_known(state, is_read=known is not None)
            in_a_word = health_of(state, _ended_as(recent), is_read=known is not None)
            health = _card_health(model, in_a_word, recent, rights)
        cards.append(
            Card(
                name=model.name,
                title=model.showroom.title or model.name,
                description=model.description,
                tags=model.tags,
                loading=loading_of(model),
                has_accuracy=model.showroom.truth is not None and rights.dispatches,
                last=last if rights.dispatches else None,
                sparkline=sparkline(recent, RECENT) if rights.dispatches and recent else None,
                health=health,
            )
        )
    return sorted(cards, key=lambda card: card.title.casefold())


def _ended_as(recent: Sequence[RecentDispatch]) -> State | None:
    return next((each.state for each in reversed(recent) if each.state != "running"), None)


def _card_health(
    model: ModelConfig, health: Health, recent: Sequence[RecentDispatch], rights: CardRights
) -> CardHealth:
    failed = next((each for each in reversed(recent) if each.state == "failed"), None)
    link = f"monitor?{urlencode({'search': model.name})}"
    if health.word == "failing" and failed and rights.dispatches:
        link = f"dispatches/{quote(failed.dispatch_id, safe='')}"
    return CardHealth(health.word, translate(health.why), link, health.word in _ALARMING)
