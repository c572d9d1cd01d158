"""docker-compose.yaml as Docker would read it, and its services as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
FILE = CHECKOUT / "docker-compose.yaml"
VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<operator>:-|:\?)(?P<word>[^}]*))?\})")
STOP_S = 15.0


def new_env() -> dict[str, str]:
    """What `docker/new-env.sh` prints, as Compose reads a .env."""
    printed = subprocess.run(
        ["sh", str(CHECKOUT / "docker" / "new-env.sh")], check=True, capture_output=True, text=True
    ).stdout
    lines = (line for line in printed.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Fill in `${NAME}`, `${NAME:-default}` and `${NAME:?message}`; raises `ValueError` for the last."""

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        found = variables.get(match["name"], "")
        if not found and match["operator"] == ":?":
            raise ValueError(f"{match['name']}: {match['word']}")
        return found or (match["word"] if match["operator"] else "")

    return VARIABLE.sub(value, text)


def load(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with its variables filled in, merges and aliases resolved."""

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [filled(value) for value in node]
        return interpolate(node, variables) if isinstance(node, str) else node

    loaded: dict[str, Any] = filled(yaml.safe_load(FILE.read_text()))
    return loaded


@dataclass(frozen=True)
class Host:
    """This machine in the place of the containers: the addresses and folders that stand for theirs."""

    home: Path  # for /opt/airflow
    ports: Mapping[str, int]  # "mysql:3306" -> the port here

    def local(self, text: str) -> str:
        text = text.replace("/tmp/", f"{self.home}/")
        for address, port in self.ports.items():
            text = text.replace(address, f"127.0.0.1:{port}")
        # An argument of its own in a command; containers have a network each.
        text = text.replace("8085", str(self.ports["localhost:8085"]))
        return text.replace("/opt/airflow", str(self.home))

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        """A service's environment, and of this machine's only what a process cannot do without."""
        stated = {name: self.local(str(value)) for name, value in service["environment"].items()}
        stated["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        stated["HOME"] = str(self.home)
        stated["PYTHONPATH"] = str(CHECKOUT / "tests" / "mysqlclient_stand_in")
        stated["AIRFLOW__API__PORT"] = str(self.ports["api-server:8080"])
        stated["AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT"] = str(self.ports["localhost:8974"])
        # Containers have a network each; here the log servers of all test runs would share one port.
        stated["AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT"] = str(self.ports["worker:8793"])
        stated["AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT"] = str(self.ports["triggerer:8794"])
        return stated

    def command(self, service: Mapping[str, Any]) -> list[str]:
        """What the container would run; the official image's entrypoint puts `airflow` before a command."""
        entrypoint = service.get("entrypoint", ["airflow"])
        command = service.get("command", [])
        words = command if isinstance(command, list) else shlex.split(command)
        return [self.local(word) for word in [*entrypoint, *words]]

    @contextmanager
    def running(self, name: str, service: Mapping[str, Any]) -> Iterator[Path]:
        """Run a service in the background; yields its log."""
        log = self.home / f"{name}.log"
        command, environment = self.command(service), self.environment(service)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, cwd=self.home, start_new_session=True
            )
        try:
            yield log
        finally:
            _end(process)

    def wait_until_healthy(self, name: str, service: Mapping[str, Any], timeout_s: float = 600) -> None:
        """Run the service's own healthcheck until it succeeds."""
        kind, *test = service["healthcheck"]["test"]
        command = ["sh", "-c", *test] if kind == "CMD-SHELL" else test
        command = [self.local(word) for word in command]
        deadline = time.monotonic() + timeout_s
        while True:
            done = subprocess.run(
                command, env=self.environment(service), capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                return
            if time.monotonic() > deadline:
                log = (self.home / f"{name}.log").read_text(errors="replace")[-3000:]
                raise AssertionError(f"{name} is not healthy: {done.stdout}{done.stderr}\n{log}")
            time.sleep(1)

    def run(self, service: Mapping[str, Any], command: Sequence[str] | None = None) -> str:
        """Run a service to its end; returns what it printed."""
        done = subprocess.run(
            command or self.command(service),
            env=self.environment(service),
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
