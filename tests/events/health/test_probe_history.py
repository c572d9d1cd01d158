"""Probes add up by hour, incidents begin and end with them, and what is old is forgotten; on every engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mlops_plugin.events.health.incidents import Change
from mlops_plugin.events.health.probes import Findings, ProbeHistory, ProbeRecord, ProbeState, spans
from mlops_plugin.events.store import EventStore

NOON = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
TARGET = "host api.example.org:443"


@pytest.fixture
def history(store: EventStore) -> ProbeHistory:
    return ProbeHistory(store)


def probe(
    state: ProbeState,
    *,
    minutes: float = 0,
    seconds: float | None = None,
    error: str | None = None,
    target: str = TARGET,
) -> ProbeRecord:
    return ProbeRecord(target, NOON + timedelta(minutes=minutes), state, seconds, error)


def record(history: ProbeHistory, *probes: ProbeRecord, now: datetime | None = None) -> list[Change]:
    newest = max(found.at for found in probes)
    return history.record(
        Findings(probes), keep_probes=timedelta(days=2), keep=timedelta(days=90), now=now or newest
    )


def test_probes_are_kept_as_they_were_found(history: ProbeHistory) -> None:
    found = [probe("up", seconds=0.25), probe("down", minutes=1, error="refused")]
    for one in found:
        record(history, one)

    assert history.probes(TARGET, since=NOON) == found
    assert history.probes(TARGET, since=NOON + timedelta(seconds=1)) == found[1:]
    assert history.probes("host other:1", since=NOON) == []


def test_failed_probes_are_found_newest_first_without_an_incident(history: ProbeHistory) -> None:
    found = [
        probe("up"),
        probe("down", minutes=1, error="refused"),
        probe("up", minutes=2, seconds=0.1),
        probe("partly", minutes=3, error="no IPv6"),
        probe("down", minutes=4, error="another host", target="host b:1"),
    ]
    for one in found:
        record(history, one)

    assert history.failed_probes(TARGET) == [found[3], found[1]]
    assert history.failed_probes(TARGET, limit=1) == [found[3]]
    assert history.failed_probes("host other:1") == []


def test_an_hours_probes_add_up(history: ProbeHistory) -> None:
    for number, one in enumerate((0.5, 0.25, None, 1.0)):
        record(history, probe("down" if one is None else "up", minutes=number * 10, seconds=one))
    record(history, probe("partly", minutes=61, seconds=2.0), probe("up", minutes=61, target="host b:1"))

    first, second = history.hours(TARGET, since=NOON)
    assert (first.start, first.up, first.partly, first.down) == (NOON.replace(microsecond=0), 3, 0, 1)
    assert first.availability == 0.75
    assert first.seconds == pytest.approx(1.75 / 3)
    assert first.seconds_max == 1.0
    assert (second.start.hour, second.count, second.availability) == (13, 1, 1.0)
    assert len(history.hours("host b:1", since=NOON)) == 1


def test_an_incident_begins_and_ends_and_each_change_is_told_once(history: ProbeHistory) -> None:
    assert record(history, probe("up")) == []
    down = record(history, probe("down", minutes=1, error="refused"))
    assert down == [
        Change(TARGET, "up", "down", NOON + timedelta(minutes=1), NOON + timedelta(minutes=1), "refused")
    ]
    assert record(history, probe("down", minutes=2, error="timed out")) == []
    (lasting,) = history.incidents(TARGET, since=NOON)
    assert (lasting.ended_at, lasting.error) == (None, "refused")
    (up,) = record(history, probe("up", minutes=3))
    assert (up.before, up.after, up.since) == ("down", "up", NOON + timedelta(minutes=1))
    assert record(history, probe("up", minutes=4)) == []

    (over,) = history.incidents(TARGET, since=NOON)
    assert (over.began_at, over.ended_at) == (NOON + timedelta(minutes=1), NOON + timedelta(minutes=3))
    assert history.incidents(TARGET, since=NOON + timedelta(minutes=4)) == []


def test_a_target_that_is_down_at_first_sight_is_an_incident(history: ProbeHistory) -> None:
    (change,) = record(history, probe("down", error="refused"))

    assert (change.before, change.after) == ("up", "down")


def test_from_down_to_partly_one_incident_ends_and_another_begins(history: ProbeHistory) -> None:
    record(history, probe("down"))
    record(history, probe("partly", minutes=1))

    assert [(found.state, found.ended_at is None) for found in history.incidents(TARGET, since=NOON)] == [
        ("partly", True),
        ("down", False),
    ]


def test_old_probes_go_while_their_sums_stay_and_in_the_end_those_too(history: ProbeHistory) -> None:
    record(history, probe("down"))
    record(history, probe("up", minutes=1))
    later = NOON + timedelta(days=3)
    record(history, probe("up", minutes=3 * 24 * 60))
    assert len(history.probes(TARGET, since=NOON - timedelta(days=9))) == 1
    assert [span.count for span in history.hours(TARGET, since=NOON)] == [2, 1]
    assert len(history.incidents(TARGET, since=NOON)) == 1

    record(history, probe("up", minutes=100 * 24 * 60))
    assert [span.count for span in history.hours(TARGET, since=NOON)] == [1]
    assert history.incidents(TARGET, since=later - timedelta(days=9)) == []


def test_an_incident_that_lasts_is_never_forgotten(history: ProbeHistory) -> None:
    record(history, probe("down"))
    record(history, probe("down", minutes=400 * 24 * 60))

    assert len(history.incidents(TARGET, since=NOON)) == 1


def test_a_long_error_and_the_longest_target_are_stored(history: ProbeHistory) -> None:
    target = "host " + "a" * 253 + ":65535"
    record(history, probe("down", error="x" * 5000 + "\nsecond line", target=target))

    (found,) = history.probes(target, since=NOON)
    assert found.error == "x" * 999 + "…"


def test_what_was_found_is_divided_into_spans_of_time() -> None:
    found = [
        probe("up", seconds=1),
        probe("down", minutes=29),
        probe("up", minutes=30),
        probe("up", minutes=90),
    ]
    halves = spans(found, NOON, timedelta(minutes=30), 2)

    assert [(span.start, span.up, span.down) for span in halves] == [
        (NOON, 1, 1),
        (NOON + timedelta(minutes=30), 1, 0),
    ]
    assert spans([], NOON, timedelta(minutes=30), 1)[0].availability is None
