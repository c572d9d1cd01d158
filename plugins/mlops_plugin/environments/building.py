"""Builds the environments of models, and removes those that no model uses: `mlops environments sync`.

An environment is built beside its place and moved there when all of it works, so that who finds one finds a
whole one. Callers wait for each other by a lock on a file, which the kernel releases if one dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from subprocess import CompletedProcess

from mlops_plugin.environments.interpreters import find_python, installer, run
from mlops_plugin.environments.location import DESCRIPTION, Described, Environment
from mlops_plugin.errors import EnvironmentUnusable

START_WORKER = Path(__file__).with_name("start_worker.py")
_PART = ".part"
_FOR_OLD_NUMPY = "pyarrow<26"  # later ones need NumPy 2
_LAST_LINES = 15  # of what an installer says when it fails

Tell = Callable[[str], None]


def build(environment: Environment, tell: Tell, wheels: Path | None = None) -> bool:
    """Build it unless it is there; returns whether this call has built it.

    `wheels`: install from the wheels in this folder alone. `tell` hears what is done, and warnings. Raises
    `EnvironmentUnusable`.
    """
    if environment.is_whole:
        return False  # without the lock, which a process that uses it may hold for days
    environment.folder.mkdir(parents=True, exist_ok=True)
    with _locked(environment.lock, wait=True):
        if environment.is_whole:
            return False
        for warning in warnings_of(environment):
            tell(f"warning: {warning}")
        unfinished = environment.folder / f".{environment.key}{_PART}"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(environment.path, ignore_errors=True)  # its Python is gone
        try:
            described = _build_in(unfinished, environment, tell, wheels)
            unfinished.rename(environment.path)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    tell(f"built {environment.path} (Python {described.python}, {len(described.packages)} packages)")
    return True


def warnings_of(environment: Environment) -> list[str]:
    """Why another machine, or another day, might install something else."""
    found, file = [], environment.requirements
    if not file.is_hashed:
        unpinned = f"; these have no version: {', '.join(file.unpinned)}" if file.unpinned else ""
        found.append(
            f"{file.path} has no hashes, so what is installed may differ from what you tested{unpinned}; "
            "lock it, e.g. with: uv pip compile --generate-hashes"
        )
    if file.left_out:
        found.append(
            f"{file.path} does not name {' and '.join(file.left_out)}, which the worker needs: the newest "
            "that suits is installed; add it before you lock the file"
        )
    return found


def remove_unused(used: Collection[Environment], folder: Path, tell: Tell) -> int:
    """Remove the environments in `folder` that none of these models uses; returns how many.

    One in which a process still answers stays for the next time.
    """
    keys = {environment.key for environment in used}
    removed = 0
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        if path.name in keys or not (path / DESCRIPTION).is_file():
            continue
        with contextlib.suppress(BlockingIOError), _locked(folder / f".{path.name}.lock", wait=False):
            path.rename(folder / f".{path.name}{_PART}")  # at once: who looks for it finds all or nothing
            removed += 1
            tell(f"removed {path}, which no model uses")
    for rest in folder.glob(f".*{_PART}"):
        lock = rest.with_suffix(".lock")
        with contextlib.suppress(BlockingIOError), _locked(lock, wait=False):  # nobody is building it
            shutil.rmtree(rest, ignore_errors=True)
    return removed


def _build_in(folder: Path, environment: Environment, tell: Tell, wheels: Path | None) -> Described:
    base = find_python(environment.python_version)
    tell(
        f"models.{environment.model}: building an environment of {environment.requirements.path} with {base}"
    )
    _require(run([base, "-I", "-m", "venv", "--without-pip", str(folder)]), environment, "making it")
    python = folder / "bin" / "python"
    file = environment.requirements
    # A copy: the file may change while it is installed.
    copy = folder / "requirements.txt"
    copy.write_bytes(file.content)
    command = installer(python, is_offline=wheels is not None)
    if wheels is not None:
        command += ["--no-index", "--find-links", str(wheels.absolute())]
    hashes = ["--require-hashes"] if file.is_hashed else []
    try:
        if file.packages:
            _install([*command, *hashes, "-r", str(copy)], environment)
        if file.left_out:
            _install([*command, *_suitable(file.left_out, python)], environment)
    finally:
        copy.unlink()  # the model may read the environment, and an index's address may hold a password
    started = run([str(python), "-I", str(START_WORKER), "describe"])
    _require(started, environment, "starting the worker in it")
    described = Described(base=base, requirements=file.path, **json.loads(started.stdout.splitlines()[-1]))
    (folder / DESCRIPTION).write_text(json.dumps(asdict(described), indent=2), encoding="utf-8")
    return described


def _suitable(left_out: Collection[str], python: Path) -> list[str]:
    """What to install of what the file has left out: a pyarrow that runs with the NumPy that is there."""
    asked = run([str(python), "-I", "-c", "from importlib.metadata import version; print(version('numpy'))"])
    is_old = asked.returncode == 0 and asked.stdout.startswith(("0.", "1."))
    return [_FOR_OLD_NUMPY if name == "pyarrow" and is_old else name for name in left_out]


def _install(command: list[str], environment: Environment) -> None:
    _require(run(command, timeout_s=None), environment, "installing its packages")


def _require(done: CompletedProcess[str], environment: Environment, doing: str) -> None:
    """Raise `EnvironmentUnusable` with the last lines of a program's output, if it failed."""
    if done.returncode == 0:
        return
    output = f"{done.stdout}\n{done.stderr}".strip().splitlines()
    raise EnvironmentUnusable(
        f"models.{environment.model}.model.environment: {doing} failed "
        f"({environment.requirements.path}, Python {environment.python_version}):\n  "
        + "\n  ".join(output[-_LAST_LINES:])
    )


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Nobody else builds, removes or uses it inside; raises `BlockingIOError` if somebody does."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(held)
