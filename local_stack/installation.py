"""Makes `.venv/` from the lock; the Makefile runs it first, with the system's Python."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from local_stack import processes
from local_stack.layout import Layout, this_checkout
from local_stack.locks import exclusive
from local_stack.progress import LocalStackError, run

LOCKS = {"run": "requirements.txt", "develop": "requirements-dev.txt"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make environment", description=__doc__)
    parser.add_argument("--dev", action="store_true", help="with what the tests need")
    parser.add_argument(
        "--this-python", action="store_true", help="also replace an environment of another version"
    )
    options = parser.parse_args(arguments)
    try:
        layout = this_checkout()
        layout.create()
        with exclusive(layout.local / "install.lock", "an installation"):
            install(layout, dev=options.dev, this_python=options.this_python)
    except LocalStackError as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the next run completes the environment.", file=sys.stderr)
        return 130
    return 0


def install(layout: Layout, *, dev: bool, this_python: bool) -> None:
    """Install what the lock lists into `.venv/`, or do nothing if it is already there.

    A stamp names what it holds. After an interrupted installation, everything is installed again.
    """
    stamp, begun = layout.venv / "installed", layout.venv / "installing"
    wanted = digest(layout, "develop" if dev else "run")
    usable = works(layout, this_python) and not begun.exists()
    if usable and stamp.exists() and wanted in stamp.read_text().split():
        return
    if running := processes.find(layout.checkout):
        raise LocalStackError(
            "requirements or Python changed, but Airflow still runs from .venv "
            f"(process {running[0].pid}): make down first"
        )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if not usable:
        make(layout, environment)
    stamp.unlink(missing_ok=True)
    begun.touch()
    pip = [layout.program("python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    lock = LOCKS["develop" if dev else "run"]
    locked = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", lock]
    project = ["--no-deps", "--no-build-isolation", "--editable", "."]
    log = layout.logs / "install.log"
    run(f"installing {lock}", [*pip, *locked], log, env=environment, cwd=layout.checkout)
    run("installing the mlops command", [*pip, *project], log, env=environment, cwd=layout.checkout)
    stamp.write_text("\n".join({wanted, digest(layout, "run")}) + "\n")
    begun.unlink()


def make(layout: Layout, environment: dict[str, str]) -> None:
    """Create `.venv/` with the Python that runs this, in place of one that does not work."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise LocalStackError(
            f"{sys.executable} (Python {version}) cannot create environments: it has no venv module.\n"
            f"On Debian and Ubuntu: apt-get install python{version}-venv. "
            "Or choose another Python: make up PYTHON=/path/to/python3.12"
        )
    command = [sys.executable, "-m", "venv", "--clear", str(layout.venv)]
    run(
        f"making .venv with Python {version}",
        command,
        layout.logs / "venv.log",
        env=environment,
        cwd=layout.checkout,
    )


def works(layout: Layout, this_python: bool) -> bool:
    """Whether `.venv/` has a Python that starts, was made for this folder, and is of a wanted version."""
    probe = "import sys, pip; print(*sys.version_info[:2], sys.prefix)"
    try:
        answer = subprocess.run(
            [layout.program("python"), "-I", "-c", probe], capture_output=True, text=True, check=True
        )
        script = Path(layout.program("pip")).read_bytes()
    except (OSError, subprocess.CalledProcessError):
        return False
    major, minor, prefix = answer.stdout.strip().split(" ", 2)
    version = (int(major), int(minor))
    fits = version == sys.version_info[:2] if this_python else (3, 11) <= version <= (3, 13)
    # A moved or copied environment still has programs that start the Python of the old place.
    return fits and Path(prefix) == layout.venv and str(layout.venv).encode() in script


def digest(layout: Layout, kind: str) -> str:
    """A hash of everything that decides the content of `.venv/`."""
    names = [LOCKS[kind], "requirements.in", "pyproject.toml"]
    content = b"\0".join((layout.checkout / name).read_bytes() for name in names)
    return f"{kind}-{hashlib.sha256(content).hexdigest()}"


if __name__ == "__main__":
    sys.exit(main())
