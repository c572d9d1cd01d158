"""A slow read holds nobody up, and its last value stays until there is a better one."""

from __future__ import annotations

import threading

from mlops_plugin.errors import EventStoreError
from mlops_plugin.monitoring.background import Background, Known


def test_a_quick_read_is_seen_at_once() -> None:
    assert Background[int]().look(lambda: 7, wait_s=60, timeout_s=60) == Known(7)


def test_a_read_that_hangs_is_waited_for_no_longer_and_not_started_twice() -> None:
    release, reads = threading.Event(), []

    def hang() -> int:
        reads.append(1)
        release.wait()
        return 8

    background = Background[int]()
    background.look(lambda: 7, wait_s=60, timeout_s=60)
    for _ in range(3):
        assert background.look(hang, wait_s=0.1, timeout_s=60) == Known(7)
    assert reads == [1]
    release.set()
    assert background.look(hang, wait_s=60, timeout_s=60).value == 8
    assert len(reads) <= 2


def test_an_old_value_is_shown_beside_an_error_only() -> None:
    release = threading.Event()
    background = Background[int]()
    background.look(lambda: 7, wait_s=60, timeout_s=60)

    def wait_and_refuse() -> int:
        release.wait()
        raise EventStoreError("no tables")

    assert background.look(wait_and_refuse, wait_s=0.1, timeout_s=60, kept_s=60) == Known(7)
    assert background.look(wait_and_refuse, wait_s=0.1, timeout_s=60, kept_s=0) == Known()
    release.set()
    refused = background.look(wait_and_refuse, wait_s=60, timeout_s=60, kept_s=0)
    assert refused == Known(7, "no tables")


def test_a_read_that_takes_too_long_is_an_error_beside_the_last_value_until_it_ends() -> None:
    release = threading.Event()
    background = Background[int]()
    background.look(lambda: 7, wait_s=60, timeout_s=60)
    overdue = background.look(lambda: int(release.wait()), wait_s=0.1, timeout_s=0)
    assert overdue == Known(7, "no answer within 0 s; still waiting")
    release.set()
    assert background.look(lambda: 1, wait_s=60, timeout_s=60) == Known(1)


def test_an_error_is_told_beside_the_last_value_and_gone_with_the_next() -> None:
    def refuse() -> int:
        raise EventStoreError("no tables")

    background = Background[int]()
    assert background.look(refuse, wait_s=60, timeout_s=60) == Known(None, "no tables")
    assert background.look(lambda: 7, wait_s=60, timeout_s=60) == Known(7)
    assert background.look(refuse, wait_s=60, timeout_s=60) == Known(7, "no tables")
