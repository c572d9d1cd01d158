"""Reads the environment of a checkout that `make up` has set up; the `mlops` command uses it there."""

from __future__ import annotations

import shlex
from pathlib import Path


def local_environment(checkout: Path) -> dict[str, str] | None:
    """The variables in `.local/env`, without PATH; None if `make up` has never run there."""
    try:
        text = (checkout / ".local" / "env").read_text()
    except FileNotFoundError:
        return None
    words = shlex.split(text, comments=True)
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    return {name: value for name, value in settings.items() if name != "PATH"}
