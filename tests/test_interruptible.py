"""A command ends with its own status, whatever a thread that was given up is doing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import FrameType

import pytest

from mlops_plugin.databases.lane import Lane
from mlops_plugin.errors import StepInterrupted
from mlops_plugin.interruptible import interruptible, waiting

CHECKOUT = Path(__file__).resolve().parents[1]
# The thread goes back and forth between Python and Arrow: Python's end would meet it there.
_COMMAND = """
import sys
import threading
import pyarrow as pa
from mlops_plugin.cli import mlops
from mlops_plugin.interruptible import interruptible

def batches():
    while True:
        yield pa.record_batch({"a": [1]})

def read():
    for _ in pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int64())]), batches()):
        pass

def give_up(options):
    try:
        interruptible(read, 0.2)
    except TimeoutError:
        print("given up")
    return 3

mlops._COMMANDS = {"db_current": give_up}
sys.argv = ["mlops", "db", "current"]
sys.exit(mlops.main())
"""


def test_command_ends_beside_a_thread_that_works_in_a_library(tmp_path: Path) -> None:
    environment = {
        "PYTHONPATH": str(CHECKOUT / "plugins"),
        "PATH": "/usr/bin:/bin",
        "AIRFLOW_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "given up\n"), done.stderr


def test_what_interrupts_a_wait_is_told_what_was_waited_for() -> None:
    go_on, main = threading.Event(), threading.main_thread().ident or 0

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise StepInterrupted("killed")

    def wait() -> None:
        with waiting("reading rows: waiting for db:3306"):
            signal.pthread_kill(main, signal.SIGALRM)
            go_on.wait(60)

    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(StepInterrupted) as caught:
            interruptible(wait)
    finally:
        signal.signal(signal.SIGALRM, handler)
        go_on.set()
    assert caught.value.__notes__ == ["while reading rows: waiting for db:3306"]


@pytest.fixture(params=[interruptible, Lane], ids=["step", "connection"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Both ways to wait for work in another thread."""
    if request.param is interruptible:
        yield interruptible
        return
    lane = Lane("test")
    yield lane.run
    lane.end(lambda: None, 10)


def test_work_that_ends_just_after_its_limit_was_done_in_time(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit is answered while the thread that has waited for it is about to go on."""
    go_on = threading.Event()

    def late(outcomes: list[Future[str]], _limit_s: float) -> None:
        go_on.set()
        outcomes[0].result(60)

    def work() -> str:
        assert go_on.wait(60)
        return "committed"

    monkeypatch.setattr("mlops_plugin.interruptible.wait", late)
    assert run(work, 10) == "committed"


def test_a_timeout_from_outside_is_not_that_of_the_wait(run: Callable[..., str]) -> None:
    go_on = threading.Event()
    main = threading.get_ident()

    def too_late(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError("task_timeout")

    def work() -> str:
        time.sleep(0.1)  # then it is waited for
        signal.pthread_kill(main, signal.SIGALRM)
        go_on.wait(60)
        return "too late"

    handler = signal.signal(signal.SIGALRM, too_late)
    try:
        with pytest.raises(TimeoutError, match="task_timeout"):
            run(work, 60)
    finally:
        signal.signal(signal.SIGALRM, handler)
        go_on.set()
