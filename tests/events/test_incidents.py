"""Incidents begin and end by as many sightings in a row as their thresholds ask for; on every engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mlops_plugin.events.incidents import Change, Sighting, Thresholds
from mlops_plugin.events.probes import Findings, ProbeHistory, ProbeRecord, ProbeState
from mlops_plugin.events.store import EventStore

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOST = "host api.example.org:443"
PATIENT = {HOST: Thresholds(failure=3, success=2)}


@pytest.fixture
def history(store: EventStore) -> ProbeHistory:
    return ProbeHistory(store)


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


def see(history: ProbeHistory, found: Findings, at: datetime) -> list[Change]:
    return history.record(found, keep_probes=timedelta(minutes=1), keep=timedelta(days=90), now=at)


def probe(history: ProbeHistory, state: ProbeState, number: int) -> list[tuple[str, str]]:
    """One probe of the host in that minute; what changed by it."""
    at = minute(number)
    one = ProbeRecord(HOST, at, state, None, None if state == "up" else f"{state} in minute {number}")
    return [(made.before, made.after) for made in see(history, Findings([one], thresholds=PATIENT), at)]


def keep_time(history: ProbeHistory, state: str, number: int) -> list[Change]:
    seen = Sighting("timing churn", minute(number), state, f"{state}!", usual="on time")
    return see(history, Findings([], [seen]), minute(number))


def test_an_incident_begins_with_the_first_of_enough_failures_and_ends_with_the_first_of_enough_successes(
    history: ProbeHistory,
) -> None:
    states: tuple[ProbeState, ...] = ("up", "down", "down", "down", "down", "up", "up", "up")
    changes = [probe(history, state, number) for number, state in enumerate(states)]

    assert [number for number, made in enumerate(changes) if made] == [3, 6]
    assert (changes[3], changes[6]) == ([("up", "down")], [("down", "up")])
    (incident,) = history.incidents(HOST, since=NOON)
    assert (incident.began_at, incident.ended_at) == (minute(1), minute(5))
    assert incident.error == "down in minute 3"


def test_failures_that_a_success_interrupts_do_not_add_up(history: ProbeHistory) -> None:
    states: tuple[ProbeState, ...] = ("down", "down", "up", "down", "down", "up")

    assert [made for number, state in enumerate(states) for made in probe(history, state, number)] == []
    assert history.incidents(HOST, since=NOON) == []


def test_one_success_in_between_does_not_end_an_incident(history: ProbeHistory) -> None:
    states: tuple[ProbeState, ...] = ("down", "down", "down", "up", "down", "up", "up")
    changes = [made for number, state in enumerate(states) for made in probe(history, state, number)]

    assert changes == [("up", "down"), ("down", "up")]
    (incident,) = history.incidents(HOST, since=NOON)
    assert incident.ended_at == minute(5)


def test_a_host_that_is_partly_up_counts_as_a_failure_and_the_last_word_names_the_incident(
    history: ProbeHistory,
) -> None:
    states: tuple[ProbeState, ...] = ("partly", "down", "partly", "down", "down", "down")
    changes = [made for number, state in enumerate(states) for made in probe(history, state, number)]

    assert changes == [("up", "partly"), ("partly", "down")]


def test_late_missed_and_overrun_are_told_apart_each_once_and_its_end_too(history: ProbeHistory) -> None:
    states = ("on time", "late", "late", "missed", "missed", "on time", "overrun", "on time", "on time")
    changes = [made for number, state in enumerate(states) for made in keep_time(history, state, number)]

    assert [(made.before, made.after, made.since) for made in changes] == [
        ("on time", "late", minute(1)),
        ("late", "missed", minute(1)),
        ("missed", "on time", minute(3)),
        ("on time", "overrun", minute(6)),
        ("overrun", "on time", minute(6)),
    ]
    found = history.incidents("timing churn", since=NOON)
    assert [(one.state, one.began_at, one.ended_at, one.error) for one in found] == [
        ("overrun", minute(6), minute(7), "overrun!"),
        ("missed", minute(3), minute(5), "missed!"),
        ("late", minute(1), minute(3), "late!"),
    ]


def test_incidents_of_several_targets_are_one_list(history: ProbeHistory) -> None:
    keep_time(history, "late", 0)
    for number in (1, 2, 3):
        probe(history, "down", number)

    found = history.incidents(HOST, "timing churn", since=NOON)
    assert [one.state for one in found] == ["down", "late"]
