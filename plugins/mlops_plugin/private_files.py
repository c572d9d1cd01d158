"""Files and folders that only their owner may read, whatever the umask is: staging and the event store's."""

from __future__ import annotations

import contextlib
from pathlib import Path

_FILE_MODE = 0o600
_FOLDER_MODE = 0o700


def make_private_folder(folder: Path, below: Path) -> None:
    """Make a folder and its parents; those under `below`, and what did not exist, become private."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    ours = [path for path in (folder, *folder.parents) if below in path.parents]
    for path in {*missing, *ours}:
        _restrict(path, _FOLDER_MODE)


def make_private_file(path: Path) -> None:
    """Make the file unless it exists, and keep others from it."""
    path.touch(_FILE_MODE)
    _restrict(path, _FILE_MODE)


def restrict_file(path: Path) -> None:
    """Keep others from a file; one that does not exist, or is another user's, stays as it is."""
    _restrict(path, _FILE_MODE)


def _restrict(path: Path, mode: int) -> None:
    with contextlib.suppress(FileNotFoundError, PermissionError):
        if path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)
