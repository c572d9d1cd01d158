"""The Monitor's memory in one API server; the app holds one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mlops_plugin.events.health.probes import Span
from mlops_plugin.events.latest import RecentDispatch
from mlops_plugin.events.records import DispatchRecord
from mlops_plugin.events.tries import Retry
from mlops_plugin.monitoring.background import Background
from mlops_plugin.monitoring.board import ProbeBoard


@dataclass(frozen=True)
class Past:
    """What the event store knows: each model's last dispatch, and a day's probes of the rest by hour.

    `ahead` is by how much its clock is ahead of ours; `retries` are what running dispatches try again, by id,
    and `opened` when they were last opened.
    """

    dispatches: Mapping[str, DispatchRecord]
    hours: Sequence[Span]
    ahead: timedelta
    retries: Mapping[str, Retry] = field(default_factory=dict)
    opened: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class LastDispatches:
    """Of each model, its last dispatch and a few before it, oldest first; the rest as in `Past`."""

    last: Mapping[str, DispatchRecord]
    recent: Mapping[str, Sequence[RecentDispatch]]
    ahead: timedelta
    opened: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """The last probes and readings, shared by all requests; `last` is for the list of models."""

    board: ProbeBoard = field(default_factory=ProbeBoard)
    past: Background[Past] = field(default_factory=Background)
    last: Background[LastDispatches] = field(default_factory=Background)
