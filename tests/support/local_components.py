"""Components of a local Airflow that are none: processes for tests to begin and to wait for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from local_stack.layout import Layout

CHECKOUT = Path(__file__).resolve().parents[2]
SOON_S = 240.0
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


class Begin(Protocol):
    def __call__(self, layout: Layout, component: str, command: list[str]) -> subprocess.Popen[bytes]: ...


def wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + SOON_S
    while text not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
