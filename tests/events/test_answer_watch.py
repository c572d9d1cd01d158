"""The watch over the event store's connections cuts those without an answer, and no others."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from mlops_plugin.events.servers.answer_watch import AnswerWatch, Line

ROOT = Path(__file__).parents[2]
SUSPENDED_S = 3

SUSPENDED = """
import os, signal, socket, time
from mlops_plugin.events.servers.answer_watch import AnswerWatch, Line

ours, theirs = socket.socketpair()
line, watch = Line(ours.fileno()), AnswerWatch()
watch.expect(line, 2.0)
due = line.due
os.kill(os.getpid(), signal.SIGSTOP)
while line.due == due and line.silent_s is None:  # until the watch has looked at the clock
    time.sleep(0.01)
print(line.silent_s)
"""


def test_connection_without_an_answer_is_cut() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line, watch = Line(ours.fileno()), AnswerWatch()
        watch.expect(line, 0.1)
        assert ours.recv(1) == b""  # in vain, but not for ever
        assert line.silent_s == 0.1
        line.close()


def test_answer_in_time_keeps_the_connection_open() -> None:
    ours, theirs = socket.socketpair()
    others, silent = socket.socketpair()
    with ours, theirs, others, silent:
        line, other, watch = Line(ours.fileno()), Line(others.fileno()), AnswerWatch()
        watch.expect(line, 1.5)  # a busy machine may stop for a while right here
        line.due = None
        watch.expect(other, 1.6)
        assert others.recv(1) == b""  # so long it has watched
        theirs.send(b"x")
        assert ours.recv(1) == b"x"
        line.close()
        other.close()


def test_time_in_which_the_process_was_suspended_does_not_count() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SUSPENDED],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "plugins"},
    ) as process:
        assert process.stdout is not None
        os.waitpid(process.pid, os.WUNTRACED)  # it has stopped itself
        time.sleep(SUSPENDED_S)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == "None\n"
