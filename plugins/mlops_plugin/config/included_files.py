"""Finds the files that `include:` names; `loader` reads them, the web app watches them for changes.

Only files of config.yaml's own folder and the folders below it count, symbolic links followed: who may write
into a team's folder cannot make this process read, and quote in a message, any other file of the machine.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Stamp = tuple[tuple[str, int, int, int] | None, ...]  # name, its two times, bytes; None: not there


@dataclass(frozen=True)
class Unusable:
    """A pattern, or a file that it matches, that cannot be used."""

    position: int  # of the pattern in the list, from 0
    message: str


def find_included(path: Path, patterns: Sequence[str]) -> tuple[list[Path], list[Unusable]]:
    """The files that config.yaml at `path` includes, in the order in which they are read.

    That is the order of the patterns, and by name for each. A file that two patterns match is read once, and
    config.yaml itself is never among them.
    """
    folder = folder_of(path)
    inside, itself = os.path.realpath(folder), os.path.realpath(path)
    files: dict[str, Path] = {}
    unusable: list[Unusable] = []
    for position, pattern in enumerate(patterns):
        targets = {name: os.path.realpath(folder / name) for name in _matches(folder, pattern)}
        others = {name: target for name, target in targets.items() if target != itself}
        if not others:
            unusable.append(Unusable(position, f"'{pattern}' matches no file in {folder}"))
        for name, target in others.items():
            if Path(target).is_relative_to(inside):
                files.setdefault(target, folder / name)
            else:
                message = f"'{name}' is a link that leads out of {folder}; put the file there"
                unusable.append(Unusable(position, message))
    return list(files.values()), unusable


def take_stamp(path: Path, patterns: Sequence[str]) -> Stamp:
    """What changes when config.yaml or a file that it includes is changed, added or removed."""
    if not patterns:
        return (_stamp(path),)
    folder = folder_of(path)
    names = [name for pattern in patterns for name in _matches(folder, pattern)]
    return (_stamp(path), *(_stamp(folder / name) for name in names))


def folder_of(path: Path) -> Path:
    """The folder from which relative paths are found. Symbolic links stay, as they are in messages."""
    return Path(os.path.normpath(path.absolute().parent))


def _matches(folder: Path, pattern: str) -> list[str]:
    """Names below the folder, sorted; not hidden ones, such as an editor's backup or a mount's `..data`."""
    return sorted(glob.glob(pattern, root_dir=folder))  # noqa: PTH207 (pathlib's finds hidden files)


def _stamp(path: Path) -> tuple[str, int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - asked for each request
    except OSError:
        return None
    # A copy may have the times of another file, but not the time of its own change.
    return (str(path), status.st_ctime_ns, status.st_mtime_ns, status.st_size)
