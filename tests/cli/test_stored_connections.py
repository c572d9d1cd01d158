"""The `mlops` command finds connections wherever Airflow keeps them, as tasks do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_plugin.cli.airflow_context import stored_connections
from mlops_plugin.connections import PROCESS_CONTEXT
from support.workshop import Workshop

Command = Callable[..., subprocess.CompletedProcess[str]]
# Finds no connections, makes Airflow's metadata database, and keeps the connections of a file there.
_KEEP = """
import os, sys
import airflow.sdk
from mlops_plugin.cli import main

if (child := os.fork()) == 0:
    os._exit(main(["check", "--connect"]))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
from airflow.__main__ import main

file = sys.argv[1]
for words in (["db", "migrate"], ["connections", "import", file]):
    sys.argv[1:] = words
    main()
"""
# Each command in a process that was forked when nothing had been looked up yet: Airflow is imported once.
_EACH = """
import json, os, sys
import airflow.sdk
from mlops_plugin.cli import main

for words in json.loads(sys.argv[1]):
    if (child := os.fork()) == 0:
        status = main(words)
        sys.stdout.flush()
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0, words
"""


@pytest.fixture
def mlops(workshop: Workshop, tmp_path: Path) -> Command:
    """Run `mlops` as a process of its own, with a metadata database; the environment names no connection."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}
    environment |= {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__MLOPS__CONFIG_FILE": str(workshop.config_file),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        program = words if words[0] in ("-m", "-c") else ("-m", "mlops_plugin.cli", *words)
        return subprocess.run(
            [sys.executable, *program],
            env={**environment, **more},
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )

    return run


def _uris(workshop: Workshop) -> dict[str, str]:
    return {
        name.removeprefix("AIRFLOW_CONN_").lower(): value
        for name, value in os.environ.items()
        if name.startswith("AIRFLOW_CONN_") and str(workshop.folder) in value
    }


def test_connections_of_the_metadata_database_serve_every_command(
    workshop: Workshop, mlops: Command, tmp_path: Path
) -> None:
    (tmp_path / "connections.json").write_text(json.dumps(_uris(workshop)))
    kept = mlops("-c", _KEEP, "connections.json")
    assert kept.returncode == 0, kept.stderr
    commands = ("db upgrade", "check --connect", "dispatch churn", "cursor", "baseline churn")
    done = mlops("-c", _EACH, json.dumps([command.split() for command in commands]))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert len(workshop.predictions()) == 5


def test_connections_of_a_secrets_backend_serve(workshop: Workshop, mlops: Command, tmp_path: Path) -> None:
    file = tmp_path / "connections.json"
    file.write_text(json.dumps(_uris(workshop)))
    backend = {
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(file)}),
    }
    done = mlops("check", "--connect", **backend)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "airflow" / "airflow.db").exists()  # looking makes none


def test_metadata_database_that_fails_is_named(mlops: Command, tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("this is no database " * 100)
    done = mlops("check", "--connect", AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{tmp_path / 'no.db'}")
    assert done.returncode == 1
    assert "file is not a database" in done.stdout


def test_only_the_command_is_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "mysql://somewhere")
    with stored_connections():
        assert os.environ[PROCESS_CONTEXT] == "server"
    assert PROCESS_CONTEXT not in os.environ


def test_checkout_without_airflow_is_found(workshop: Workshop, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "include").mkdir(parents=True)
    (checkout / "include" / "config.yaml").write_text(workshop.config_file.read_text())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment["HOME"] = str(tmp_path)
    command = [sys.executable, "-m", "mlops_plugin.cli"]
    done = subprocess.run(
        [*command, "check"], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert "1 of 1 models" in done.stdout, done.stderr
    wrong = subprocess.run(
        [*command, "--config", "wrong/config.yaml", "check"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert wrong.returncode == 1
    assert (wrong.stdout + wrong.stderr).splitlines() == ["mlops: wrong/config.yaml: no such file"]
