"""Finds the Python of a model's environment, and what installs packages into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlops_plugin.errors import EnvironmentUnusable

_ASK_S = 300.0
_ASK = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
# Settings of pip that lead to packages, and that uv does not read.
_SETTINGS_OF_PIP = (
    "index-url", "extra-index-url", "find-links", "no-index", "proxy", "cert", "client-cert", "trusted-host",
    "constraint",
)  # fmt: skip
_SETTINGS_OF_UV = (
    "UV_CONFIG_FILE", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS",
    "UV_OFFLINE",
)  # fmt: skip
# They would have packages installed, or found, elsewhere.
_MISLEADING = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "VIRTUAL_ENV")


def find_python(version: str) -> str:
    """A Python of this minor version: the one that runs here, one on PATH, or one that uv knows.

    Raises `EnvironmentUnusable` if there is none.
    """
    for candidate in _candidates(version):
        asked = run([candidate, "-I", "-c", _ASK], also={"PYENV_VERSION": version})  # of pyenv's programs
        found = asked.stdout.split(maxsplit=1)
        if asked.returncode == 0 and found[:1] == [version]:
            return found[1].strip()
    raise EnvironmentUnusable(
        f"Python {version} was not found: there is no working `python{version}` on PATH; install it, or set "
        f"`environment: {{python: ...}}` to a version that is there (this is Python "
        f"{sys.version_info[0]}.{sys.version_info[1]})"
    )


def _candidates(version: str) -> Iterator[str]:
    if version == "{}.{}".format(*sys.version_info[:2]):
        yield sys.executable
    on_path = shutil.which(f"python{version}")
    if on_path is not None:
        yield on_path
    if (uv := find_uv()) is not None:
        found = run([uv, "python", "find", "--no-python-downloads", version])
        if found.returncode == 0 and found.stdout.strip():
            yield found.stdout.strip()


def find_uv() -> str | None:
    """uv on PATH, or beside this Python."""
    beside = Path(sys.executable).with_name("uv")
    return shutil.which("uv") or (str(beside) if os.access(beside, os.X_OK) else None)


def installer(python: Path, *, is_offline: bool) -> list[str]:
    """The command that installs into the environment of this Python; its arguments are pip's.

    uv is much quicker, but it does not read pip's configuration: behind a mirror that only pip knows of, it
    would look in the wrong place. So pip installs wherever pip is configured to find packages and uv is not.
    Neither needs to be in the environment.

    Raises `EnvironmentUnusable` if neither is installed.
    """
    uv = find_uv()
    with_uv = [str(uv), "pip", "install", "--python", str(python)]
    if uv is not None and is_offline:
        return with_uv
    pip = [sys.executable, "-m", "pip"]
    settings = run([*pip, "config", "list"])
    has_pip = settings.returncode == 0
    if uv is not None and not (has_pip and _is_only_for_pip(settings.stdout)):
        return with_uv
    if has_pip:
        return [*pip, "--python", str(python), "install", "--no-input", "--no-warn-script-location"]
    raise EnvironmentUnusable(
        f"neither uv nor pip is installed beside {sys.executable}, to install a model's libraries; install "
        "one of them"
    )


def _is_only_for_pip(settings: str) -> bool:
    names = {line.partition("=")[0].rpartition(".")[2] for line in settings.splitlines()}
    return bool(names & {*_SETTINGS_OF_PIP}) and not any(name in os.environ for name in _SETTINGS_OF_UV)


def run(
    command: list[str], timeout_s: float | None = _ASK_S, also: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, without what would mislead it about where packages are."""
    try:
        return subprocess.run(
            command,
            env={**_environment(os.environ), **(also or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in _MISLEADING}
