"""Which models the Monitor lists and in what order, and how many there are in each state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, Field

from mlops_plugin.monitoring.model_state import ModelWord
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.monitor.bars import day_bars
from mlops_plugin.web.monitor.records import ModelStatus, MonitorStatus, ProbeStatus

# The good news first, then by urgency.
_STATES: tuple[ModelWord, ...] = ("ok", *(word for word in get_args(ModelWord) if word != "ok"))
_URGENCY: Mapping[str, int] = {word: place for place, word in enumerate(get_args(ModelWord))}
_PROBE_STATES = ("up", "partly", "down", "unknown")

SortKey = Literal["name", "state", "last", "next"]
Direction = Literal["ascending", "descending"]


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


class MonitorQuery(BaseModel):
    """What of the models to show; a form leaves fields empty."""

    search: Annotated[str, Field(max_length=250)] = ""
    state: Annotated[ModelWord | None, BeforeValidator(_none_if_empty)] = None
    group: Annotated[Literal["tag", "owner"] | None, BeforeValidator(_none_if_empty)] = None
    sort: Annotated[SortKey | None, BeforeValidator(_none_if_empty)] = None
    descending: bool = False

    def link(self, path: str = "monitor", **changes: str | None) -> str:
        """`path` with this query, changed; what is as usual is left out."""
        values = {
            "search": self.search or None,
            "state": self.state,
            "group": self.group,
            "sort": self.sort,
            "descending": "true" if self.descending else None,
            **changes,
        }
        text = urlencode({name: value for name, value in values.items() if value is not None})
        return f"{path}?{text}" if text else path


def shown_values(status: MonitorStatus, asked: MonitorQuery) -> dict[str, Any]:
    """What the templates show of the status."""
    return {
        "seen": status,
        "asked": asked,
        "summary": count_models(status.models, asked),
        "hosts_summary": count_probes(status.hosts),
        "databases_summary": count_probes(status.databases),
        "groups": arrange_models(status.models, asked),
        "columns": columns_of(asked),
        "has_disabled": not all(model.may_pause and model.may_trigger for model in status.models),
        "day_bars": day_bars,
    }


@dataclass(frozen=True)
class StateCount:
    """How many are in a state; `link` shows only those, or all again if `is_chosen`."""

    state: str
    count: int
    link: str | None = None
    is_chosen: bool = False


@dataclass(frozen=True)
class Group:
    """Models under one title; None if they are not grouped."""

    title: str | None
    models: Sequence[ModelStatus]
    counts: Sequence[StateCount]


@dataclass(frozen=True)
class Column:
    """The head of a column: `sorted_as` if the list is in its order, `link` to put it so."""

    key: str
    words: str
    link: str | None = None
    sorted_as: Direction | None = None


def count_models(models: Sequence[ModelStatus], asked: MonitorQuery) -> list[StateCount]:
    """Of all models, whatever is searched for."""
    counts = Counter(model.state for model in models)
    return [
        StateCount(
            word, counts[word], asked.link(state=None if asked.state == word else word), asked.state == word
        )
        for word in _STATES
        if counts[word] or asked.state == word
    ]


def count_probes(probes: Sequence[ProbeStatus]) -> list[StateCount]:
    """Of hosts or databases."""
    counts: Counter[str] = Counter(probe.state for probe in probes)
    return [StateCount(state, counts[state]) for state in _PROBE_STATES if counts[state]]


def arrange_models(models: Sequence[ModelStatus], asked: MonitorQuery) -> list[Group]:
    """Those that are asked for, in groups by name; a model with several tags is in the group of each."""
    shown = _sort([model for model in models if _matches(model, asked)], asked)
    if asked.group is None:
        return [_group(None, shown)] if shown else []
    titles: dict[str, list[ModelStatus]] = {}
    for model in shown:
        for title in _titles(model, asked.group):
            titles.setdefault(title, []).append(model)
    return [
        _group(title or _no_title(asked.group), titles[title]) for title in sorted(titles, key=_last_if_empty)
    ]


def columns_of(asked: MonitorQuery) -> list[Column]:
    """The heads of the list of models; the third click on one restores the order of the configuration."""

    def column(key: SortKey, words: str) -> Column:
        if asked.sort != key:
            return Column(key, words, asked.link(sort=key, descending=None))
        if asked.descending:
            return Column(key, words, asked.link(sort=None, descending=None), "descending")
        return Column(key, words, asked.link(descending="true"), "ascending")

    return [
        column("name", _("Model")),
        column("state", _("State")),
        column("last", _("Last dispatch")),
        column("next", _("Next dispatch")),
        Column("schedule", _("Schedule")),
        Column("active", _("Active")),
    ]


def _matches(model: ModelStatus, asked: MonitorQuery) -> bool:
    words = asked.search.casefold().split()
    text = " ".join([model.name, model.owner or "", *model.tags]).casefold()
    return (asked.state in (None, model.state)) and all(word in text for word in words)


_KEYS: Mapping[SortKey, Callable[[ModelStatus], Any]] = {
    "name": lambda model: model.name.casefold(),
    "state": lambda model: _URGENCY[model.state],
    "last": lambda model: model.last and model.last.at,
    "next": lambda model: model.next_at,
}


def _sort(models: list[ModelStatus], asked: MonitorQuery) -> list[ModelStatus]:
    """In the order of the configuration, or by a column; what has no value comes last."""
    if asked.sort is None:
        return models
    key = _KEYS[asked.sort]
    known = [model for model in models if key(model) is not None]
    unknown = [model for model in models if key(model) is None]
    return [*sorted(known, key=key, reverse=asked.descending), *unknown]


def _titles(model: ModelStatus, group: Literal["tag", "owner"]) -> Sequence[str]:
    found = model.tags if group == "tag" else [model.owner or ""]
    return found or [""]


def _no_title(group: Literal["tag", "owner"]) -> str:
    return _("no tag") if group == "tag" else _("no owner")


def _last_if_empty(title: str) -> tuple[bool, str]:
    return not title, title.casefold()


def _group(title: str | None, models: Sequence[ModelStatus]) -> Group:
    counts = Counter(model.state for model in models)
    return Group(title, models, [StateCount(word, counts[word]) for word in _STATES if counts[word]])
