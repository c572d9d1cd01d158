"""`make up`, `make status` and `make down` as a whole, in a copy of the checkout."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local_stack import installation, processes
from local_stack.layout import Layout
from support.local_components import CHECKOUT, SOON_S
from support.servers import free_port


@pytest.mark.slow
@pytest.mark.airflow
@pytest.mark.timeout(1800)
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
        assert "the triggerer stopped: " in first.stdout
        password = (checkout / ".local" / "admin-password").read_text().strip()
        assert f"http://localhost:{port}" in first.stdout
        assert password not in first.stdout + first.stderr
        assert leaking_files(checkout, password) == set()
        expected = {"breast_cancer": 285, "wine": 89, "diabetes": 221, "digits": 899, "iris": 75}
        assert predictions(checkout) == expected
        pids = {process.pid for process in processes.components(checkout).values()}

        second = make("up", f"PORT={port}")
        assert second.returncode == 0, second.stdout + second.stderr
        assert f"already running on port {port}" in second.stdout
        assert {process.pid for process in processes.components(checkout).values()} == pids
        for model, rows in expected.items():
            assert f"{model} " in second.stdout
            assert f" {rows} " in second.stdout
        deadline = time.monotonic() + SOON_S
        while (status := make("status")).returncode and time.monotonic() < deadline:
            time.sleep(1)  # a busy machine may keep one of them silent for a moment
        assert status.returncode == 0, status.stdout
        assert status.stdout.count("healthy") == 5

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
    """The files of the checkout, and what Python has compiled of them, which is of the time of its source."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True).stdout.split(b"\0")
    files = [Path(raw.decode()) for raw in names if raw]
    compiled = [Path(importlib.util.cache_from_source(str(file))) for file in files if file.suffix == ".py"]
    for file in [*files, *compiled]:
        if (CHECKOUT / file).is_file():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / file, target / file)


def share_environment(checkout: Path) -> None:
    """A `.venv/` that finds the packages of the tests' one, stamped as installed: what pip does is known."""
    layout = Layout(checkout)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", layout.venv], check=True)
    packages = next(layout.venv.glob("lib/python*/site-packages"))
    here = next(Path(sys.prefix).glob("lib/python*/site-packages"))
    (packages / "shared.pth").write_text(f"{checkout / 'plugins'}\n{here}\n")
    modules = {"airflow": "airflow.__main__", "mlops": "mlops_plugin.cli", "pip": "pip._internal.cli.main"}
    for name, module in modules.items():
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
