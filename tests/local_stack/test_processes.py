"""The processes of a checkout, found and stopped with all that they began, and ports that are taken."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from local_stack import processes
from local_stack.layout import Layout
from local_stack.progress import LocalStackError
from support.local_components import SLEEP, Begin, wait_for, wait_until
from support.servers import free_port

# Ignores SIGTERM, and has a child in a process group of its own, as a task has.
STUBBORN = [
    sys.executable,
    "-c",
    "import os, signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "if os.fork() == 0: os.setpgid(0, 0)\n"
    "print('ready', flush=True)\n"
    "time.sleep(600)",
]


@pytest.mark.slow
def test_stop_ends_a_stubborn_process_and_its_orphan(layout: Layout, begin: Begin) -> None:
    process = begin(layout, "scheduler", STUBBORN)
    wait_for(layout.logs / "scheduler.log", "ready\nready")
    family = {found.pid for found in processes.find(layout.checkout)}
    assert len(family) == 2
    process.kill()  # the child is an orphan now, and no leader's process group holds it
    process.wait()
    assert [found.pid for found in processes.find(layout.checkout)] == [*(family - {process.pid})]
    assert not processes.components(layout.checkout)
    processes.stop(layout.checkout, lambda _: None)
    assert not processes.find(layout.checkout)


def test_stop_leaves_the_processes_of_another_checkout_alone(
    layout: Layout, begin: Begin, tmp_path: Path
) -> None:
    other = Layout(tmp_path / "another")
    other.checkout.mkdir()
    other.create()
    begin(layout, "scheduler", SLEEP)
    stranger = begin(other, "scheduler", SLEEP)
    # A program that is being loaded cannot be seen yet.
    wait_until(lambda: bool(processes.find(layout.checkout) and processes.find(other.checkout)))
    processes.stop(layout.checkout, lambda _: None)
    assert stranger.poll() is None
    assert [found.pid for found in processes.find(other.checkout)] == [stranger.pid]
    processes.stop(other.checkout, lambda _: None)
    assert stranger.wait()


def test_a_process_that_renames_itself_is_still_found(layout: Layout, begin: Begin) -> None:
    rename = "from setproctitle import setproctitle as s; s('x' * 4000); print('ready', flush=True)"
    begin(layout, "scheduler", [sys.executable, "-c", f"{rename}; import time; time.sleep(600)"])
    wait_for(layout.logs / "scheduler.log", "ready")
    assert set(processes.components(layout.checkout)) == {"scheduler"}


def test_a_restarted_component_keeps_the_previous_log(layout: Layout, begin: Begin) -> None:
    for word in ("first", "second"):
        begin(layout, "triggerer", [sys.executable, "-c", f"print('{word}')"]).wait()
    assert (layout.logs / "triggerer.log").read_text() == "second\n"
    assert (layout.logs / "triggerer.previous.log").read_text() == "first\n"


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])  # noqa: S104
def test_a_taken_port_is_reported_with_its_process(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as taken:
        taken.bind((address, port := free_port()))
        taken.listen()
        with pytest.raises(LocalStackError, match=f"{port} .* {os.getpid()} ") as raised:
            processes.check_port("127.0.0.1", port)
    assert f"PORT={port + 1}" in str(raised.value)
    processes.check_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(LocalStackError, match=r"192\.0\.2\.1"):
        processes.check_port("192.0.2.1", free_port())
