"""Incidents begin and end by as many sightings in a row as their thresholds ask for; on every engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mlops_plugin.events.health.incidents import Change, Sighting, Thresholds
from mlops_plugin.events.health.probes import Findings, ProbeHistory, ProbeRecord, ProbeState
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
    assert (incident.began_at, incident.ended_at, incident.ended_as) == (minute(1), minute(5), "up")
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
    assert [(one.state, one.began_at, one.ended_at, one.ended_as, one.error) for one in found] == [
        ("overrun", minute(6), minute(7), "on time", "overrun!"),
        ("missed", minute(3), minute(5), "on time", "missed!"),
        ("late", minute(1), minute(3), "missed", "late!"),
    ]


def test_incidents_of_several_targets_are_one_list(history: ProbeHistory) -> None:
    keep_time(history, "late", 0)
    for number in (1, 2, 3):
        probe(history, "down", number)

    found = history.incidents(HOST, "timing churn", since=NOON)
    assert [one.state for one in found] == ["down", "late"]


def look_at(history: ProbeHistory, number: int, *watched: str) -> list[Change]:
    """A round that finds nothing and watches these targets alone."""
    return see(history, Findings([], watched=watched), minute(number))


def test_an_incident_ends_once_when_its_target_is_watched_no_more(history: ProbeHistory) -> None:
    keep_time(history, "late", 0)
    for number in (1, 2, 3):
        probe(history, "down", number)
    (change,) = look_at(history, 4, "timing churn")

    assert (change.target, change.before, change.after) == (HOST, "down", "no longer watched")
    assert (change.at, change.since, change.error) == (minute(4), minute(1), None)
    (ended,) = history.incidents(HOST, since=NOON)
    assert (ended.ended_at, ended.ended_as) == (minute(4), "no longer watched")
    (lasting,) = history.incidents("timing churn", since=NOON)
    assert (lasting.ended_at, lasting.ended_as) == (None, None)
    assert look_at(history, 5, "timing churn") == []


def test_a_round_that_does_not_say_what_is_watched_ends_nothing(history: ProbeHistory) -> None:
    keep_time(history, "late", 0)
    assert see(history, Findings([]), minute(1)) == []
    (lasting,) = history.incidents("timing churn", since=NOON)
    assert lasting.ended_at is None


def test_a_target_that_returns_is_as_usual_until_enough_sightings_say_otherwise(
    history: ProbeHistory,
) -> None:
    for number in (0, 1, 2):
        probe(history, "down", number)
    probe(history, "up", 3)  # one of two that would end it
    look_at(history, 4)

    changes = [probe(history, "down", number) for number in (5, 6, 7)]
    assert changes == [[], [], [("up", "down")]]
    found = history.incidents(HOST, since=NOON)
    assert [(one.began_at, one.ended_as) for one in found] == [
        (minute(5), None),
        (minute(0), "no longer watched"),
    ]


def test_failures_before_a_target_was_removed_do_not_count_when_it_returns(history: ProbeHistory) -> None:
    for number in (0, 1):
        probe(history, "down", number)
    look_at(history, 2)

    assert [probe(history, "down", number) for number in (3, 4, 5)] == [[], [], [("up", "down")]]
