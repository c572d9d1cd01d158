"""One `make up` at a time: locks, and what happens to an `up` that may not go on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from local_stack import locks, processes, stack
from local_stack.layout import Layout
from local_stack.progress import LocalStackError
from support.local_components import CHECKOUT


def test_up_with_a_taken_port_starts_nothing(layout: Layout) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(LocalStackError, match=r"process \d+"):
            stack.up(layout, "127.0.0.1", taken.getsockname()[1])
    assert not processes.find(layout.checkout)
    assert locks.holder(layout.local / "up.lock") is None


def test_two_at_once_are_excluded_and_the_holder_is_named(layout: Layout) -> None:
    lock = layout.local / "up.lock"
    with locks.exclusive(lock, "make up"):
        assert locks.holder(lock) == os.getpid()
        with pytest.raises(LocalStackError, match=f"process {os.getpid()}"), locks.exclusive(lock, "make up"):
            pass
    assert locks.holder(lock) is None


def test_a_lock_file_left_by_a_dead_process_excludes_nobody(layout: Layout) -> None:
    lock = layout.local / "up.lock"
    lock.write_text("1")  # a stranger's pid by now
    assert locks.holder(lock) is None
    with locks.exclusive(lock, "make up"):
        assert lock.read_text() == str(os.getpid())


def test_down_interrupts_an_up_that_is_under_way(layout: Layout) -> None:
    hold = (
        "import sys, time\nfrom pathlib import Path\nfrom local_stack.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'make up'):\n    print('ready', flush=True)\n    time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", hold, str(layout.local / "up.lock")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as up:
        assert up.stdout is not None
        assert up.stdout.readline() == b"ready\n"
        stack.down(layout)
        assert up.wait() != 0
