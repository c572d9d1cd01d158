"""Components that end: started again once, with their cause told, and given up after that."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from local_stack import processes, stack
from local_stack.layout import Layout
from local_stack.progress import LocalStackError
from local_stack.supervision import COMMANDS, Supervisor
from support.local_components import Begin, wait_for, wait_until
from support.servers import free_port

# Leaves a child in its own session behind, and ends.
ORPHANING = [
    sys.executable,
    "-c",
    "import os, time\nif os.fork() == 0:\n    print('ready', flush=True)\n    time.sleep(600)",
]


class FakeAirflow(Protocol):
    def __call__(self, script: str, **environment: str) -> Supervisor: ...


@pytest.fixture
def fake_airflow(layout: Layout) -> Iterator[FakeAirflow]:
    """`airflow` and `mlops` that say that they run and sleep, once the shell lines before have let them."""
    begun: list[Supervisor] = []

    def supervisor(script: str, **environment: str) -> Supervisor:
        for name in ("airflow", "mlops"):
            program = Path(layout.program(name))
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(f'#!/bin/sh\n{script}\necho "$1 runs"\nexec sleep 600\n')
            program.chmod(0o755)
        address = {"AIRFLOW__API__HOST": "127.0.0.1", "AIRFLOW__API__PORT": "8080"}
        begun.append(Supervisor(layout, {**os.environ, **address, **environment}))
        return begun[-1]

    yield supervisor
    processes.stop(layout.checkout, lambda _: None)
    for process in (process for found in begun for process in found.started.values()):
        process.wait()


def start_all(supervisor: Supervisor) -> None:
    supervisor.start_first()
    supervisor.start_rest()


def test_no_scheduler_is_started_before_the_api_server_answers(
    layout: Layout, fake_airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor = fake_airflow("")
    supervisor.start_first()
    supervisor.check()
    assert set(COMMANDS) - set(supervisor.started) == {"scheduler"}
    supervisor.start_rest()
    scheduler = supervisor.started["scheduler"]
    supervisor.start_rest()
    supervisor.check()
    assert supervisor.started["scheduler"] is scheduler
    assert capsys.readouterr().out == ""


def test_a_component_that_ended_is_started_again_with_its_cause_told(
    layout: Layout, fake_airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    locked = "sqlite3.OperationalError: database is locked"
    once = f'[ "$1" = scheduler ] && [ ! -e once ] && touch once && echo "{locked}" && exit 1'
    supervisor = fake_airflow(once)
    start_all(supervisor)
    first = dict(supervisor.started)
    first["scheduler"].wait()  # not until it is no longer seen: that is so a moment before it has ended
    supervisor.check()
    wait_for(layout.logs / "scheduler.log", "scheduler runs")

    wait_until(lambda: set(processes.components(layout.checkout)) == set(COMMANDS))
    assert {name for name in COMMANDS if supervisor.started[name] is not first[name]} == {"scheduler"}
    said = capsys.readouterr().out
    assert f"the scheduler stopped: {locked}" in said
    assert str(layout.logs / "scheduler.previous.log") in said
    supervisor.check()  # all of them run
    assert capsys.readouterr().out == ""


def test_a_component_whose_environment_cannot_be_seen_is_not_started_again(
    layout: Layout, fake_airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of any program while the kernel loads it, which takes a busy machine its time."""
    supervisor = fake_airflow('[ "$1" = triggerer ] && echo unseen && exec env -i sleep 600')
    start_all(supervisor)
    triggerer = supervisor.started["triggerer"]
    try:
        wait_for(layout.logs / "triggerer.log", "unseen")
        wait_until(lambda: set(processes.components(layout.checkout)) == set(COMMANDS) - {"triggerer"})
        supervisor.check()
        assert supervisor.started["triggerer"] is triggerer
        assert capsys.readouterr().out == ""
    finally:
        triggerer.kill()


def test_a_component_that_ends_twice_is_given_up_with_cause_and_logs(
    layout: Layout, fake_airflow: FakeAirflow
) -> None:
    supervisor = fake_airflow('[ "$1" = triggerer ] && echo "ValueError: no port" && exit 1')
    start_all(supervisor)
    supervisor.started["triggerer"].wait()
    supervisor.check()
    supervisor.started["triggerer"].wait()
    with pytest.raises(LocalStackError, match="ValueError: no port") as raised:
        supervisor.check()

    assert str(layout.logs / "triggerer.log") in str(raised.value)
    assert str(layout.logs / "triggerer.previous.log") in str(raised.value)


@pytest.mark.slow
def test_what_a_dead_component_left_is_ended_before_it_starts_again(
    layout: Layout, fake_airflow: FakeAirflow, begin: Begin
) -> None:
    supervisor = fake_airflow("")
    start_all(supervisor)
    wait_until(lambda: set(processes.components(layout.checkout)) == set(COMMANDS))
    supervisor.started["dag-processor"].kill()
    supervisor.started["dag-processor"].wait()
    begin(layout, "dag-processor", ORPHANING).wait()
    wait_for(layout.logs / "dag-processor.log", "ready")
    (orphan,) = (found for found in processes.find(layout.checkout) if found.component == "dag-processor")
    supervisor.check()

    def family() -> list[int]:
        return [found.pid for found in processes.find(layout.checkout) if found.component == "dag-processor"]

    assert orphan.pid not in family()
    wait_until(lambda: family() == [supervisor.started["dag-processor"].pid])


def test_status_says_what_has_ended_and_why(
    layout: Layout, fake_airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor = fake_airflow(
        '[ "$1" = scheduler ] && echo "MemoryError: too much" && exit 1',
        AIRFLOW__API__HOST="127.0.0.1",
        AIRFLOW__API__PORT=str(free_port()),
    )
    start_all(supervisor)
    supervisor.started["scheduler"].wait()

    assert stack.status(layout) is False
    said = capsys.readouterr().out
    assert "scheduler      stopped: MemoryError: too much; its log: " in said
    assert "make up" in said
