"""A checkout of a test's own, and the processes that it begins in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_stack import processes
from local_stack.layout import Layout
from support.local_components import Begin


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """A checkout in a folder with a space and an umlaut; nothing of it runs on afterwards."""
    checkout = tmp_path / "a checkout für tests"
    checkout.mkdir()
    layout = Layout(checkout)
    layout.create()
    yield layout
    processes.stop(checkout, lambda _: None)


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
