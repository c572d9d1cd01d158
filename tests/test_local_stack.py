"""`make up`, `make down` and `make status`, on real processes and ports, and once as a whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from mlops_plugin.local_stack import installation, locks, processes, stack
from mlops_plugin.local_stack.environment import (
    local_environment,
    process_environment,
    read_or_make_password,
    read_or_make_secrets,
    stack_environment,
    write_env_file,
)
from mlops_plugin.local_stack.layout import Layout
from mlops_plugin.local_stack.progress import LocalStackError, cause, run
from mlops_plugin.local_stack.supervision import COMMANDS, Supervisor
from servers import free_port

CHECKOUT = Path(__file__).resolve().parents[1]
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
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


# Leaves a child in its own session behind, and ends.
ORPHANING = [
    sys.executable,
    "-c",
    "import os, time\nif os.fork() == 0:\n    print('ready', flush=True)\n    time.sleep(600)",
]


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """A checkout in a folder with a space and an umlaut; nothing of it runs on afterwards."""
    checkout = tmp_path / "a checkout für tests"
    checkout.mkdir()
    layout = Layout(checkout)
    layout.create()
    yield layout
    processes.stop(checkout, lambda _: None)


class Begin(Protocol):
    def __call__(self, layout: Layout, component: str, command: list[str]) -> subprocess.Popen[bytes]: ...


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts a component, and ends what the test left of it."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(layout: Layout, component: str, command: list[str]) -> subprocess.Popen[bytes]:
        log = layout.logs / f"{component}.log"
        begun.append(processes.start(component, command, log, env=dict(os.environ), checkout=layout.checkout))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()


def wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Processes


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
    processes.stop(layout.checkout, lambda _: None)
    assert stranger.poll() is None
    assert [found.pid for found in processes.find(other.checkout)] == [stranger.pid]
    processes.stop(other.checkout, lambda _: None)
    assert stranger.wait(5)


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


# Supervision


class FakeAirflow(Protocol):
    def __call__(self, script: str, **environment: str) -> Supervisor: ...


@pytest.fixture
def fake_airflow(layout: Layout) -> Iterator[FakeAirflow]:
    """An `airflow` that says that it runs and sleeps, once the shell lines before have let it."""
    begun: list[Supervisor] = []

    def supervisor(script: str, **environment: str) -> Supervisor:
        program = Path(layout.program("airflow"))
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\n{script}\necho "$1 runs"\nexec sleep 600\n')
        program.chmod(0o755)
        begun.append(Supervisor(layout, {**os.environ, **environment}))
        return begun[-1]

    yield supervisor
    processes.stop(layout.checkout, lambda _: None)
    for process in (process for found in begun for process in found.started):
        process.wait()


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_component_that_ended_is_started_again_with_its_cause_told(
    layout: Layout, fake_airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    locked = "sqlite3.OperationalError: database is locked"
    once = f'[ "$1" = scheduler ] && [ ! -e once ] && touch once && echo "{locked}" && exit 1'
    supervisor = fake_airflow(once)
    supervisor.start_all()
    wait_until(lambda: set(processes.components(layout.checkout)) == set(COMMANDS) - {"scheduler"})
    others = {found.pid for found in processes.components(layout.checkout).values()}
    supervisor.check()
    wait_for(layout.logs / "scheduler.log", "scheduler runs")

    running = processes.components(layout.checkout)
    assert set(running) == set(COMMANDS)
    assert others < {found.pid for found in running.values()}
    said = capsys.readouterr().out
    assert f"the scheduler ended: {locked}" in said
    assert str(layout.logs / "scheduler.previous.log") in said
    supervisor.check()  # all of them run
    assert capsys.readouterr().out == ""


def test_a_component_that_ends_twice_is_given_up_with_cause_and_logs(
    layout: Layout, fake_airflow: FakeAirflow
) -> None:
    supervisor = fake_airflow('[ "$1" = triggerer ] && echo "ValueError: no port" && exit 1')
    supervisor.start_all()
    others = set(COMMANDS) - {"triggerer"}
    wait_until(lambda: set(processes.components(layout.checkout)) == others)
    supervisor.check()
    wait_until(lambda: set(processes.components(layout.checkout)) == others)
    with pytest.raises(LocalStackError, match="and ended again: ValueError: no port") as raised:
        supervisor.check()

    assert str(layout.logs / "triggerer.log") in str(raised.value)
    assert str(layout.logs / "triggerer.previous.log") in str(raised.value)


def test_what_a_dead_component_left_is_ended_before_it_starts_again(
    layout: Layout, fake_airflow: FakeAirflow, begin: Begin
) -> None:
    supervisor = fake_airflow("")
    supervisor.start_all()
    wait_until(lambda: set(processes.components(layout.checkout)) == set(COMMANDS))
    dead = processes.components(layout.checkout)["dag-processor"]
    os.kill(dead.pid, signal.SIGKILL)
    wait_until(lambda: "dag-processor" not in processes.components(layout.checkout))
    begin(layout, "dag-processor", ORPHANING).wait()
    wait_for(layout.logs / "dag-processor.log", "ready")
    (orphan,) = (found for found in processes.find(layout.checkout) if found.component == "dag-processor")
    supervisor.check()

    now = [found.pid for found in processes.find(layout.checkout) if found.component == "dag-processor"]
    assert orphan.pid not in now
    assert len(now) == 1


def test_status_says_what_has_ended_and_why(
    layout: Layout, fake_airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor = fake_airflow(
        '[ "$1" = scheduler ] && echo "MemoryError: too much" && exit 1',
        AIRFLOW__API__HOST="127.0.0.1",
        AIRFLOW__API__PORT=str(free_port()),
    )
    supervisor.start_all()
    wait_until(lambda: set(processes.components(layout.checkout)) == set(COMMANDS) - {"scheduler"})

    assert stack.status(layout) is False
    said = capsys.readouterr().out
    assert "scheduler      has ended: MemoryError: too much; its log: " in said
    assert "start it anew: make up" in said


# Ports


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])  # noqa: S104
def test_a_taken_port_is_reported_with_its_process(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as taken:
        taken.bind((address, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            LocalStackError, match=f"port {port} is taken by process {os.getpid()} "
        ) as raised:
            processes.check_port("127.0.0.1", port)
    assert f"PORT={port + 1}" in str(raised.value)
    processes.check_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(LocalStackError, match=r"cannot listen on 192\.0\.2\.1"):
        processes.check_port("192.0.2.1", free_port())


def test_up_with_a_taken_port_starts_nothing(layout: Layout) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(LocalStackError, match="is taken by"):
            stack.up(layout, "127.0.0.1", taken.getsockname()[1])
    assert not processes.find(layout.checkout)
    assert locks.holder(layout.local / "up.lock") is None


# Locks


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
        "import sys, time\nfrom pathlib import Path\nfrom mlops_plugin.local_stack.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'make up'):\n    print('ready', flush=True)\n    time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "plugins")}
    command = [sys.executable, "-c", hold, str(layout.local / "up.lock")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as up:
        assert up.stdout is not None
        assert up.stdout.readline() == b"ready\n"
        stack.down(layout)
        assert up.wait(10) != 0


# Secrets and the environment


def test_secrets_are_private_made_once_and_kept(layout: Layout) -> None:
    first = read_or_make_secrets(layout)
    password = read_or_make_password(layout)
    assert read_or_make_secrets(layout) == first
    assert read_or_make_password(layout) == password
    assert len(password) >= 20
    write_env_file(layout, stack_environment(layout, "127.0.0.1", 8080))
    for path in (layout.secrets, layout.admin_password, layout.env_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.local.stat().st_mode) == 0o700


def test_damaged_secrets_are_reported_and_not_replaced(layout: Layout) -> None:
    layout.secrets.write_text("{")
    with pytest.raises(LocalStackError, match=r"secrets\.json is damaged"):
        read_or_make_secrets(layout)
    assert layout.secrets.read_text() == "{"


def test_a_shell_and_python_read_the_same_from_the_env_file(layout: Layout) -> None:
    assert local_environment(layout.checkout) is None
    variables = stack_environment(layout, "127.0.0.1", 8081)
    write_env_file(layout, variables)
    assert local_environment(layout.checkout) == variables
    script = '. "$1"; exec "$2" -c "import json, os; print(json.dumps(dict(os.environ)))"'
    command = ["sh", "-eu", "-c", script, "sh", str(layout.env_file), sys.executable]
    shell = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert variables.items() <= shell.items()
    assert shell["PATH"].startswith(f"{layout.venv}/bin:")


def test_another_airflow_of_the_caller_does_not_leak_in(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", "/elsewhere")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_CONN_SALES", "sqlite:////sales.db")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.delenv("HOME")
    environment = process_environment(layout, stack_environment(layout, "127.0.0.1", 8080))
    assert environment["AIRFLOW_HOME"] == str(layout.airflow_home)
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert environment["AIRFLOW_CONN_SALES"] == "sqlite:////sales.db"
    assert "PYTHONPATH" not in environment
    assert environment["HOME"] == str(layout.local)
    assert "127.0.0.1" in environment["no_proxy"].split(",")


@pytest.mark.parametrize("name", ["100%", "what?", "a:b", "it's"])
def test_a_folder_that_airflow_cannot_bear_is_refused(tmp_path: Path, name: str) -> None:
    checkout = tmp_path / name
    checkout.mkdir()
    with pytest.raises(LocalStackError, match="move the checkout"):
        Layout(checkout).create()


# Logs


def test_a_failed_command_is_told_by_its_cause_and_log(layout: Layout) -> None:
    script = "import sys; print('loading'); sys.exit('ValueError: no such port\\n\\x1b[31mbye\\x1b[0m')"
    log = layout.logs / "step.log"
    with pytest.raises(LocalStackError) as raised:
        run("a step", [sys.executable, "-c", script], log, env={}, cwd=layout.checkout)
    assert str(raised.value) == f"a step failed: ValueError: no such port\nThe whole log: {log}"


def test_the_cause_of_a_log_without_errors_is_its_last_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert cause(log) == "(the log is empty)"
    log.write_bytes(b"one\n\n\x1b[32mtwo\x1b[0m\xff\n\n")
    assert cause(log) == "two�"


# The environment made from the lock


def test_no_python_gives_a_hint_instead_of_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "environment", f"PYTHON={tmp_path / 'no-python'}"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "No Python 3.11, 3.12 or 3.13 behind PYTHON=" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_stamp_follows_the_lock(layout: Layout) -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "requirements.in", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, layout.checkout)
    run_, develop = installation.digest(layout, "run"), installation.digest(layout, "develop")
    assert run_ != develop
    with (layout.checkout / "requirements.txt").open("a") as lock:
        lock.write("# changed\n")
    assert installation.digest(layout, "run") != run_
    assert installation.digest(layout, "develop") == develop


def test_a_moved_environment_does_not_count(layout: Layout) -> None:
    subprocess.run([sys.executable, "-m", "venv", layout.venv], check=True)
    assert installation.works(layout, this_python=True)
    moved = Layout(layout.checkout.with_name("moved"))
    layout.checkout.rename(moved.checkout)
    assert not installation.works(moved, this_python=True)
    moved.checkout.rename(layout.checkout)


def test_nothing_is_installed_under_a_running_airflow(layout: Layout, begin: Begin) -> None:
    for name in ("requirements.txt", "requirements.in", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, layout.checkout)
    begin(layout, "scheduler", SLEEP)
    with pytest.raises(LocalStackError, match="make down first"):
        installation.install(layout, dev=False, this_python=False)
    assert not layout.venv.exists()


# The whole of it


@pytest.mark.slow
@pytest.mark.airflow
@pytest.mark.timeout(900)
def test_up_twice_status_and_down_in_a_copy_with_a_space_in_its_name(tmp_path: Path) -> None:
    checkout = tmp_path / "a fresh copy"
    copy_checkout(checkout)
    share_environment(checkout)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "AIRFLOW_HOME")}

    def make(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *words], cwd=checkout, env=environment, capture_output=True, text=True, check=False
        )

    try:
        assert make("status").returncode != 0
        first = up_while_the_triggerer_dies(checkout, port, environment)
        assert first.returncode == 0, first.stdout + first.stderr
        assert "the triggerer ended: " in first.stdout
        password = (checkout / ".local" / "admin-password").read_text().strip()
        assert f"http://localhost:{port}" in first.stdout
        assert password not in first.stdout + first.stderr
        assert leaking_files(checkout, password) == set()
        expected = {"breast_cancer": 285, "wine": 89, "diabetes": 221, "digits": 899}
        assert predictions(checkout) == expected
        pids = {process.pid for process in processes.components(checkout).values()}

        second = make("up", f"PORT={port}")
        assert second.returncode == 0, second.stdout + second.stderr
        assert f"runs already, on port {port}" in second.stdout
        assert {process.pid for process in processes.components(checkout).values()} == pids
        for model, rows in expected.items():
            assert f"{model} " in second.stdout
            assert f" {rows} " in second.stdout
        status = make("status")
        assert status.returncode == 0, status.stdout
        assert status.stdout.count("healthy") == 4

        down = make("down")
        assert down.returncode == 0, down.stdout + down.stderr
        assert not processes.find(checkout)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
        assert make("status").returncode != 0
        assert made_outside(checkout) == set()
    finally:
        processes.stop(checkout, lambda _: None)


def up_while_the_triggerer_dies(
    checkout: Path, port: int, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """`make up`, with a component killed while it waits for the demo; no task depends on that one."""
    command = ["make", "up", f"PORT={port}"]
    said, wrong = checkout.with_name("up.out"), checkout.with_name("up.err")
    with said.open("w") as out, wrong.open("w") as err:
        up = subprocess.Popen(command, cwd=checkout, env=environment, stdout=out, stderr=err)
        while up.poll() is None and "waiting for one dispatch of each" not in said.read_text():
            time.sleep(0.1)
        if triggerer := processes.components(checkout).get("triggerer"):
            os.kill(triggerer.pid, signal.SIGKILL)
        returncode = up.wait()
    return subprocess.CompletedProcess(command, returncode, said.read_text(), wrong.read_text())


def copy_checkout(target: Path) -> None:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True).stdout.split(b"\0")
    for name in filter(None, (raw.decode() for raw in names)):
        if (CHECKOUT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, target / name)


def share_environment(checkout: Path) -> None:
    """A `.venv/` that finds the packages of the tests' one, stamped as installed: what pip does is known."""
    layout = Layout(checkout)
    subprocess.run([sys.executable, "-m", "venv", layout.venv], check=True)
    packages = next(layout.venv.glob("lib/python*/site-packages"))
    here = next(Path(sys.prefix).glob("lib/python*/site-packages"))
    (packages / "shared.pth").write_text(f"{checkout / 'plugins'}\n{here}\n")
    for name, module in (("airflow", "airflow.__main__"), ("mlops", "mlops_plugin.cli")):
        program = layout.venv / "bin" / name
        program.write_text(
            f'#!/bin/sh\nexec "{layout.venv}/bin/python" -c "import sys; sys.argv[0] = \'{name}\'; '
            f'from {module} import main; sys.exit(main())" "$@"\n'
        )
        program.chmod(0o755)
    (layout.venv / "installed").write_text(installation.digest(layout, "run"))


def predictions(checkout: Path) -> dict[str, int]:
    uri = f"file:{checkout / '.local' / 'predictions.db'}?mode=ro"
    with sqlite3.connect(uri, uri=True) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE name LIKE '%_predictions'").fetchall()
        counts = {
            table.removesuffix("_predictions"): database.execute(
                f'SELECT COUNT(*) FROM "{table}"'
            ).fetchone()[0]
            for (table,) in tables
        }
    database.close()
    return counts


def leaking_files(checkout: Path, password: str) -> set[str]:
    local = checkout / ".local"
    holders = {str(path.relative_to(local)) for path in local.rglob("*.log") if password in path.read_text()}
    if password in (local / "env").read_text():
        holders.add("env")
    return holders


def made_outside(checkout: Path) -> set[str]:
    """What is neither of the repository, nor below `.venv/` and `.local/`, nor Python's own cache."""
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, check=True, capture_output=True, text=True)
    known = set(listed.stdout.splitlines())
    others = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    known |= set(others.stdout.splitlines())
    found = {str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file()}
    return {
        name
        for name in found - known
        if not name.startswith((".venv/", ".local/")) and "__pycache__" not in name
    }
