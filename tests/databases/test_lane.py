"""A lane does a connection's work; once a wait for it was given up, it does nothing more but close."""

from __future__ import annotations

import threading

import pytest

from mlops_plugin.databases.lane import Lane, LaneBlocked


def test_work_is_done_in_one_thread_and_its_error_is_raised_here() -> None:
    lane = Lane("test")
    assert lane.run(threading.get_ident, 10) == lane.run(threading.get_ident, 10) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        lane.run(lambda: 1 // 0, 10)
    assert lane.run(lambda: "still there", 10) == "still there"
    lane.end(lambda: None, 10)


def test_timeout_of_the_work_itself_is_not_that_of_the_wait() -> None:
    def work() -> None:
        raise TimeoutError("the driver's own")

    lane = Lane("test")
    with pytest.raises(TimeoutError, match="the driver's own"):
        lane.run(work, 10)
    assert not lane.is_abandoned
    lane.end(lambda: None, 10)


@pytest.mark.slow
def test_lane_that_was_given_up_takes_no_more_work_and_closes_in_the_end() -> None:
    lane, answer, closed = Lane("test"), threading.Event(), threading.Event()
    done: list[str] = []
    with pytest.raises(LaneBlocked):
        lane.run(answer.wait, 0.05)
    with pytest.raises(LaneBlocked):
        lane.run(lambda: done.append("a late question"), 10)
    lane.end(closed.set, 10)  # returns at once
    assert not closed.is_set()
    answer.set()
    assert closed.wait(10)
    assert done == []


def test_work_may_ask_its_own_lane() -> None:
    lane = Lane("test")
    assert lane.run(lambda: lane.run(lambda: "rows", 10), 10) == "rows"
    lane.end(lambda: None, 10)
