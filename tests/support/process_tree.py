"""What Linux says of processes and their children."""

from __future__ import annotations

from pathlib import Path


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended already
        return []


def model_processes(pid: int) -> list[int]:
    """The processes of models and the fork servers that any thread of a process has started."""
    names = b"workers.worker", b"workers.fork_server"
    found = [
        int(word)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for word in _read(thread / "children").split()
    ]
    return [child for child in found if any(name in _read(Path(f"/proc/{child}/cmdline")) for name in names)]


def _read(path: Path) -> bytes:
    """Nothing of a thread or process that has just ended."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
