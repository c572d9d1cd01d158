"""A slow read holds nobody up, and its last value stays until there is a better one."""

from __future__ import annotations

import threading
import time

from mlops_plugin.errors import EventStoreError
from mlops_plugin.monitor.background import Background, Known


def test_a_quick_read_is_seen_at_once() -> None:
    assert Background[int]().look(lambda: 7, wait_s=5, timeout_s=5) == Known(7)


def test_a_read_that_hangs_is_waited_for_no_longer_and_not_started_twice() -> None:
    release, reads = threading.Event(), []

    def hang() -> int:
        reads.append(1)
        release.wait(10)
        return 8

    background = Background[int]()
    background.look(lambda: 7, wait_s=5, timeout_s=5)
    began = time.monotonic()
    assert background.look(hang, wait_s=0.1, timeout_s=0.2) == Known(7)
    assert time.monotonic() - began < 1
    time.sleep(0.2)
    overdue = background.look(hang, wait_s=0.1, timeout_s=0.2)
    assert overdue.value == 7
    assert "no answer within 0.2 s" in str(overdue.error)
    release.set()
    assert background.look(hang, wait_s=5, timeout_s=5).value == 8
    assert len(reads) <= 2


def test_an_error_is_told_beside_the_last_value_and_gone_with_the_next() -> None:
    def refuse() -> int:
        raise EventStoreError("no tables")

    background = Background[int]()
    assert background.look(refuse, wait_s=5, timeout_s=5) == Known(None, "no tables")
    assert background.look(lambda: 7, wait_s=5, timeout_s=5) == Known(7)
    assert background.look(refuse, wait_s=5, timeout_s=5) == Known(7, "no tables")
