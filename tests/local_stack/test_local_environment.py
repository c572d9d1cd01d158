"""Secrets, environment variables, logs and packages of a local Airflow."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from local_stack import installation
from local_stack.environment import (
    KEPT_VARIABLES,
    process_environment,
    read_or_make_password,
    read_or_make_secrets,
    stack_environment,
    write_env_file,
    write_local_settings,
)
from local_stack.layout import Layout
from local_stack.progress import LocalStackError, cause, run
from mlops_plugin.cli.local_environment import local_environment
from support.local_components import CHECKOUT, SLEEP, Begin


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
    with pytest.raises(LocalStackError, match=r"secrets\.json"):
        read_or_make_secrets(layout)
    assert layout.secrets.read_text() == "{"


def test_a_shell_and_python_read_the_same_from_the_env_file(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(KEPT_VARIABLES)]:
        monkeypatch.delenv(name)
    assert local_environment(layout.checkout) is None
    variables = stack_environment(layout, "127.0.0.1", 8081)
    write_env_file(layout, variables)
    assert local_environment(layout.checkout) == variables
    script = '. "$1"; exec "$2" -c "import json, os; print(json.dumps(dict(os.environ)))"'
    command = ["sh", "-eu", "-c", script, "sh", str(layout.env_file), sys.executable]
    shell = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert variables.items() <= shell.items()
    assert shell["PATH"].startswith(f"{layout.venv}/bin:")


def test_libraries_are_loaded_before_tasks_are_forked(layout: Layout) -> None:
    settings = layout.airflow_home / "config" / "airflow_local_settings.py"
    for found in (None, "an older file of make up"):
        if found is not None:
            settings.write_text(settings.read_text().partition("\n")[0] + found)
        write_local_settings(layout)
        assert "preload()" in settings.read_text()
    settings.write_text("# of the user's own\n")
    write_local_settings(layout)
    assert settings.read_text() == "# of the user's own\n"


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


def test_own_connections_and_variables_are_remembered(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = stack_environment(layout, "127.0.0.1", 8080)
    sales = json.dumps({"conn_type": "sqlite", "host": "/it's here/sales.db"})
    monkeypatch.setenv("AIRFLOW_CONN_SALES", sales)
    monkeypatch.setenv("AIRFLOW_VAR_REGION", "north # south\nwest")
    write_env_file(layout, stack)
    monkeypatch.delenv("AIRFLOW_CONN_SALES")
    monkeypatch.setenv("AIRFLOW_VAR_REGION", "south")
    write_env_file(layout, stack)
    known = local_environment(layout.checkout)
    assert known is not None
    assert known["AIRFLOW_CONN_SALES"] == sales
    assert known["AIRFLOW_VAR_REGION"] == "south"
    assert process_environment(layout, stack)["AIRFLOW_CONN_SALES"] == sales


def test_a_removed_line_is_forgotten(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = stack_environment(layout, "127.0.0.1", 8080)
    monkeypatch.setenv("AIRFLOW_CONN_SALES", "sqlite:////sales.db")
    write_env_file(layout, stack)
    monkeypatch.delenv("AIRFLOW_CONN_SALES")
    lines = layout.env_file.read_text().splitlines(keepends=True)
    layout.env_file.write_text("".join(line for line in lines if "SALES" not in line))
    assert "AIRFLOW_CONN_SALES" not in process_environment(layout, stack)


def test_the_demo_keeps_its_own_connections(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DEMO_SOURCE", "sqlite:////elsewhere.db")
    stack = stack_environment(layout, "127.0.0.1", 8080)
    write_env_file(layout, stack)
    assert (local_environment(layout.checkout) or {})["AIRFLOW_CONN_DEMO_SOURCE"] == stack[
        "AIRFLOW_CONN_DEMO_SOURCE"
    ]


@pytest.mark.parametrize("name", ["100%", "what?", "a:b", "it's"])
def test_a_folder_that_airflow_cannot_bear_is_refused(tmp_path: Path, name: str) -> None:
    checkout = tmp_path / name
    checkout.mkdir()
    with pytest.raises(LocalStackError, match=re.escape(name)):
        Layout(checkout).create()


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


@pytest.mark.slow
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
    with pytest.raises(LocalStackError, match="make down"):
        installation.install(layout, dev=False, this_python=False)
    assert not layout.venv.exists()
