"""What the tries of a dispatch say about its idle time and about what is being retried."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mlops_plugin.events.records import Kind, Step
from mlops_plugin.events.store import EventStore
from mlops_plugin.events.tries import Moment, Retry, idle_seconds, openings_of, read_moments, retry_of
from support.event_stories import new_identity

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: float, step: Step | None, kind: Kind, number: int = 1, partition: int | None = None) -> Moment:
    error = f"{step} {number}" if kind == "failed" else None
    return Moment(step, kind, partition, number, START + timedelta(seconds=second), error)


BEGUN = [at(0, None, "started"), at(1, "collect", "started")]
RETRIED = [*BEGUN, at(2, "collect", "failed"), at(302, "collect", "started", 2)]
CLEARED = [
    *BEGUN,
    at(2, "collect", "failed"),
    at(2, None, "failed"),
    at(90_002, None, "started"),
    at(90_003, "collect", "started", 2),
    at(90_005, "collect", "succeeded", 2),
]


@pytest.mark.parametrize(
    ("moments", "idle"),
    [
        ([], 0.0),
        (BEGUN, 0.0),
        (RETRIED, 300.0),
        (CLEARED, 90_001.0),
        # the steps after a clear wait for a worker, not for a try
        (
            [
                *BEGUN,
                at(2, "collect", "succeeded"),
                at(3, "infer", "started"),
                at(4, "infer", "failed"),
                at(4, None, "failed"),
                at(14, None, "started"),
                at(14, "collect", "started", 2),
                at(15, "collect", "succeeded", 2),
                at(75, "infer", "started", 2),
            ],
            10.0,
        ),
        # a worker that is awaited between two steps is no try that is awaited
        ([*BEGUN, at(2, "collect", "succeeded"), at(60, "log", "started")], 0.0),
        # one partition waits while another works: idle is only the time after that
        (
            [
                at(0, "infer", "started", partition=0),
                at(0, "infer", "started", partition=1),
                at(5, "infer", "failed", partition=0),
                at(10, "infer", "succeeded", partition=1),
                at(30, "infer", "started", 2, partition=0),
            ],
            20.0,
        ),
    ],
)
def test_idle_is_the_time_between_a_failed_try_and_the_next(moments: list[Moment], idle: float) -> None:
    assert idle_seconds(moments) == idle


@pytest.mark.parametrize(
    ("moments", "second"),
    [
        (BEGUN, 0),
        (RETRIED, 0),
        (CLEARED, 90_002),
        # of a cleared task, its step is the first that is heard
        (
            [
                *BEGUN,
                at(2, None, "succeeded"),
                at(900, "persist", "started", 2),
                at(901, "persist", "failed"),
            ],
            900,
        ),
    ],
)
def test_a_dispatch_is_opened_again_by_the_first_event_after_its_end(
    moments: list[Moment], second: int
) -> None:
    assert openings_of({"d": moments, "unknown": []}) == {"d": START + timedelta(seconds=second)}


def test_a_dispatch_that_waits_for_its_next_try_is_idle_until_now() -> None:
    waiting = RETRIED[:-1]
    assert idle_seconds(waiting, START + timedelta(seconds=62)) == 60.0
    assert idle_seconds(waiting) == 0.0
    assert idle_seconds(RETRIED, START + timedelta(seconds=400)) == 300.0


@pytest.mark.parametrize(
    ("moments", "retry"),
    [
        (BEGUN, None),
        (RETRIED[:-1], Retry("collect", 2, "collect 1")),
        (RETRIED, Retry("collect", 2, "collect 1")),
        ([*RETRIED, at(310, "collect", "failed", 2)], Retry("collect", 3, "collect 2")),
        ([*RETRIED, at(310, "collect", "succeeded", 2), at(311, "log", "started")], None),
        (CLEARED[:4], None),
        (CLEARED, None),
    ],
)
def test_a_step_is_retried_until_it_succeeds(moments: list[Moment], retry: Retry | None) -> None:
    assert retry_of(moments) == retry


def test_moments_are_those_of_the_asked_dispatches_in_order(store: EventStore) -> None:
    this, other = new_identity(), new_identity()
    for identity in (this, other):
        store.begin(identity)
        store.step_started(identity.dispatch_id, "collect", 1)
    store.step_failed(this.dispatch_id, "collect", 1, error="no route", is_final=False)
    store.step_started(this.dispatch_id, "collect", 2)
    found = read_moments(store, [this.dispatch_id])
    assert list(found) == [this.dispatch_id]
    assert [(each.step, each.kind, each.try_number) for each in found[this.dispatch_id]] == [
        (None, "started", None),
        ("collect", "started", 1),
        ("collect", "failed", 1),
        ("collect", "started", 2),
    ]
    assert retry_of(found[this.dispatch_id]) == Retry("collect", 2, "no route")
    assert read_moments(store, []) == {}
