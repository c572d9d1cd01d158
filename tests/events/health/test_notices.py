"""A change leaves a notice, and one process at a time may tell it; on every engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mlops_plugin.events.health.notices import Notice, Notices
from mlops_plugin.events.health.probes import Findings, ProbeHistory, ProbeRecord
from mlops_plugin.events.store import EventStore

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LEASE = timedelta(minutes=5)


def fall(
    store: EventStore,
    target: str = "host a:1",
    *,
    name: str = "Feature service",
    has_notifiers: bool = True,
) -> None:
    down = ProbeRecord(target, NOON, "down", None, "refused")
    found = Findings([down], names={"host a:1": name}, has_notifiers=has_notifiers)
    ProbeHistory(store).record(found, keep_probes=timedelta(days=2), keep=timedelta(days=90), now=NOON)


def only(notices: Notices) -> Notice:
    (notice,) = notices.waiting()
    return notice


def test_a_change_leaves_a_notice_with_the_name_that_people_know(store: EventStore) -> None:
    fall(store)
    notice = only(Notices(store))

    assert (notice.name, notice.notified) == ("Feature service", ())
    assert (notice.change.before, notice.change.after, notice.change.error) == ("up", "down", "refused")
    assert (notice.change.at, notice.change.since) == (NOON, NOON)


def test_the_longest_name_that_a_target_may_have_is_cut(store: EventStore) -> None:
    fall(store, name="s" * 500)

    assert only(Notices(store)).name == "s" * 299 + "…"


def test_there_is_no_notice_where_nobody_is_to_be_told(store: EventStore) -> None:
    fall(store, has_notifiers=False)

    assert Notices(store).waiting() == []


def test_one_process_at_a_time_tells_a_notice_until_it_lets_go_or_is_overdue(store: EventStore) -> None:
    fall(store)
    notices = Notices(store)
    notice = only(notices)

    assert notices.claim(notice, LEASE)
    assert not notices.claim(notice, LEASE)
    notices.release(notice)
    assert notices.claim(notice, -LEASE)  # it has ended already
    assert notices.claim(notice, LEASE)
    assert not notices.claim(notice, LEASE)


def test_who_was_told_is_remembered_until_the_notice_is_settled(store: EventStore) -> None:
    fall(store)
    notices = Notices(store)
    notices.remember(only(notices), ["a", "b"])
    assert only(notices).notified == ("a", "b")
    settled = only(notices)
    notices.settle(settled, NOON)

    assert notices.waiting() == []
    assert not notices.claim(settled, LEASE)


def test_a_claim_knows_who_was_told_since_the_notice_was_read(store: EventStore) -> None:
    fall(store)
    notices = Notices(store)
    read_before = only(notices)
    notices.remember(read_before, ["a"])

    claimed = notices.claim(read_before, LEASE)
    assert claimed is not None
    assert claimed.notified == ("a",)


def test_notices_wait_in_the_order_of_their_changes(store: EventStore) -> None:
    fall(store, "host b:1")
    fall(store)

    assert [notice.name for notice in Notices(store).waiting()] == ["host b:1", "Feature service"]


def test_a_target_that_is_watched_no_more_keeps_its_name_in_the_last_notice(store: EventStore) -> None:
    fall(store)
    fall(store, "host b:1", has_notifiers=False)
    ended = Findings([], has_notifiers=True, watched=())
    ProbeHistory(store).record(ended, keep_probes=timedelta(days=2), keep=timedelta(days=90), now=NOON)

    _, *last = Notices(store).waiting()
    assert [(notice.name, notice.change.after) for notice in last] == [
        ("Feature service", "no longer watched"),
        ("host b:1", "no longer watched"),
    ]
