"""A step's model runs in a process that a server has forked, or in a new Python where there is none."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.errors import ServingError
from mlops_plugin.workers import forking, starting
from mlops_plugin.workers.forking import ForkedChild
from mlops_plugin.workers.process import ModelProcess
from mlops_plugin.workers.process_limits import StepLimits
from support import hostile_models, isolated_models
from support.fork_servers import started_fork_server, wait_until
from support.workshop import FEATURES, Workshop

_ROW = pa.record_batch({name: [1.0] for name in FEATURES})


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """A server's process id. It was started where a secret is in the environment."""
    with started_fork_server() as pid:
        yield pid


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on a busy machine forks late; whoever does not wait for it starts a new Python."""
    monkeypatch.setattr(forking, "_ANSWER_S", 60.0)


def _loaded(workshop: Workshop, model: object) -> ModelProcess:
    content = pickle.dumps(model)
    (workshop.folder / "churn.pickle").write_bytes(content)
    artifact = {"format": "pickle", "uri": "churn.pickle", "sha256": sha256(content).hexdigest()}
    workshop.add_model("churn", model=artifact, features=list(FEATURES))
    process = ModelProcess(workshop.model(), StepLimits(None, None, must_be_confined=False))
    process.load()
    return process


def _stat(pid: int) -> list[str]:
    """Of a process: its state, its parent, and more; see proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parent_of(pid: int) -> int:
    return int(_stat(pid)[1])


def test_model_is_forked_by_a_process_without_secrets(workshop: Workshop, server: int) -> None:
    process = _loaded(workshop, isolated_models.Placed())
    assert _parent_of(process.pid) == server
    assert process.predict(_ROW).to_pylist() == [{"prediction": process.pid}]
    for pid in (server, process.pid):
        assert b"s3cret" not in Path(f"/proc/{pid}/environ").read_bytes()
    process.end()
    wait_until(lambda: not Path(f"/proc/{process.pid}").exists())


def test_confinement_is_that_of_a_new_python(
    workshop: Workshop, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked = _loaded(workshop, isolated_models.Placed())
    monkeypatch.setenv(forking.VARIABLE, "")
    new = _loaded(workshop, isolated_models.Placed())
    assert [_parent_of(forked.pid), _parent_of(new.pid)] == [server, os.getpid()]
    assert forked.confinement == new.confinement
    forked.end()
    new.end()


@pytest.mark.parametrize(
    ("deed", "fact"),
    [
        (hostile_models.EXITS, r"exit status 7"),
        (hostile_models.CRASHES, r"SIGSEGV"),
        (hostile_models.PRINTS, None),
    ],
)
def test_caller_hears_how_the_process_ended(
    workshop: Workshop, server: int, deed: int, fact: str | None
) -> None:
    process = _loaded(workshop, hostile_models.Hostile())
    assert _parent_of(process.pid) == server
    rows = pa.record_batch({name: [float(deed)] for name in FEATURES})
    if fact is None:
        assert process.predict(rows).num_rows == 1
        process.end()
        return
    with pytest.raises(ServingError, match=fact):
        process.predict(rows)
    assert process.is_ended


def test_process_answers_and_ends_after_its_server(workshop: Workshop) -> None:
    with started_fork_server() as server:
        process = _loaded(workshop, isolated_models.Placed())
        assert _parent_of(process.pid) == server
        os.kill(server, signal.SIGKILL)
        assert process.predict(_ROW).num_rows == 1
        process.end()
        wait_until(lambda: not Path(f"/proc/{process.pid}").exists())
        new = _loaded(workshop, isolated_models.Placed())
        assert _parent_of(new.pid) == os.getpid()
        new.end()


def test_libraries_that_were_loaded_with_other_settings_are_not_used(
    workshop: Workshop, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    process = _loaded(workshop, isolated_models.Placed())
    assert _parent_of(process.pid) == os.getpid()
    process.end()


def test_forked_processes_draw_different_numbers(workshop: Workshop, server: int) -> None:
    drawn: set[Any] = set()
    for _ in range(2):
        process = _loaded(workshop, isolated_models.Drawing())
        assert _parent_of(process.pid) == server
        drawn.add(process.predict(_ROW).column(0)[0].as_py())
        process.end()
    assert len(drawn) == 2


def test_server_outlives_a_process_and_its_caller_that_end_at_once(
    workshop: Workshop,
) -> None:
    """A task that is killed ends its model's process, too; a busy server hears of both together."""
    with started_fork_server() as busy:
        process = _loaded(workshop, isolated_models.Placed())
        child = process._started.child
        assert isinstance(child, forking.ForkedChild)
        os.kill(busy, signal.SIGSTOP)
        wait_until(lambda: _stat(busy)[0] == "T")
        os.kill(child.pid, signal.SIGKILL)
        wait_until(lambda: _stat(child.pid)[0] == "Z")
        child.close()
        os.kill(busy, signal.SIGCONT)
        process.end()
        wait_until(lambda: not Path(f"/proc/{child.pid}").exists())
        again = _loaded(workshop, isolated_models.Placed())
        assert _parent_of(again.pid) == busy
        again.end()


def test_process_that_is_forked_too_late_hears_nothing(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[socket.socket] = []

    def fork(_environment: object, _memory: int, _stdin: int, _stderr: int, channel: int) -> None:
        late.append(socket.socket(fileno=os.dup(channel)))  # as the process that a slow server forks later

    monkeypatch.setattr(starting, "fork", fork)
    process = _loaded(workshop, isolated_models.Placed())
    with late[0] as channel:
        channel.setblocking(False)
        assert channel.recv(1) == b""
    process.end()


def test_threads_that_look_at_the_same_time_hear_the_same_end() -> None:
    """The server says it once: who looks second must not wait for it to be said again."""
    server, caller = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with server, subprocess.Popen([sys.executable, "-c", ""]) as process:
        child = ForkedChild(caller, process.pid, os.pidfd_open(process.pid))
        with ThreadPoolExecutor(8) as threads:
            looking = [threads.submit(child.wait, 60) for _ in range(8)]
            process.wait()
            time.sleep(0.2)  # most of them know that it has ended, and one has the lock
            server.send(b"7")
            assert {each.result() for each in looking} == {7}
        child.close()
