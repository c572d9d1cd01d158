"""Airflow notifiers that write to a file or die, for tests in this process and in Airflow's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier


class FileNotifier(BaseNotifier):
    """Appends one line of text to a file."""

    template_fields: Sequence[str] = ("text",)

    def __init__(self, file: str, text: str) -> None:
        super().__init__()
        self.file = file
        self.text = text

    def notify(self, context: Any) -> None:  # noqa: ARG002 -- the protocol's
        with Path(self.file).open("a") as file:
            file.write(f"{self.text}\n")


class Deadly(BaseNotifier):
    """Ends the process that tells it, unless a file says that it may live."""

    def __init__(self, alive: str) -> None:
        super().__init__()
        self.alive = alive

    def notify(self, context: Any) -> None:  # noqa: ARG002 -- the protocol's
        if not Path(self.alive).exists():
            raise KeyboardInterrupt
