"""Reads the environment of a checkout that `make up` has set up; the `mlops` command uses it there."""

from __future__ import annotations

import shlex
from pathlib import Path

from mlops_plugin.errors import ConfigError, Problem


def local_environment(checkout: Path) -> dict[str, str] | None:
    """The variables in `.local/env`, without PATH; None if `make up` has never run there."""
    file = checkout / ".local" / "env"
    try:
        words = shlex.split(file.read_text(), comments=True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a quote that nothing closes
        message = f"cannot be read: {error}; write it again with: make up"
        raise ConfigError([Problem(str(file), None, "", message)]) from error
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    return {name: value for name, value in settings.items() if name != "PATH"}
