"""Damages model files in many ways, and asks each in a process of its own; `outcomes` says how that ended.

This module is also the program that asks: it has loaded the libraries once and forks for each file.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from mlops_plugin.errors import MlopsError

ANSWERED, REFUSED, RAISED, ENDED, HUNG = "answered", "refused", "raised", "ended", "hung"
_CODES = {0: ANSWERED, 3: REFUSED, 4: RAISED}
_PINNED = ("joblib", "pickle")
_LIMIT_S = 60  # of one file that waits, on a busy machine
_LIMIT_CPU_S = 2  # of one that computes: a tree may be damaged into a circle
_MORE_BYTES = 1 << 30  # than the libraries take, which is another number on each machine
_HEAD_BYTES = 16


@dataclass(frozen=True)
class Sound:
    """A file as its library has written it; `more` goes into its entry."""

    file: str
    format: str
    more: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How asking a damaged file ended: a word of above, and the signal or what was raised."""

    file: str
    damage: str
    end: str
    text: str


def outcomes(folder: Path, files: Sequence[Sound], seeds: range) -> list[Outcome]:
    """Ask all damaged versions of these files about the rows of `native_models.SHOP`."""
    program = [sys.executable, "-m", "support.damaged_files"]
    wanted = json.dumps([str(folder), [asdict(file) for file in files], seeds.start, seeds.stop])
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, input=wanted, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [Outcome(**found) for found in json.loads(done.stdout.splitlines()[-1])]


def damaged(content: bytes, name: str, seeds: range) -> Iterator[tuple[str, bytes]]:
    """Cut, with other bytes, with holes, and random bytes behind the first ones; by its seeds the same."""
    for seed in seeds:
        draw = random.Random(f"{name} {seed}")
        length = draw.randrange(len(content))
        yield f"cut at {length}", content[:length]
        changed = bytearray(content)
        for _ in range(draw.choice((1, 1, 4, 40))):
            changed[draw.randrange(len(content))] = draw.randrange(256)
        yield f"other bytes {seed}", bytes(changed)
        place = draw.randrange(len(content))
        yield f"hole at {place}", content[:place] + bytes(64) + content[place + 64 :]
        noise = draw.randbytes(draw.randrange(2000))
        yield f"noise {seed}", content[: draw.choice((0, 4, _HEAD_BYTES))] + noise


def _main() -> None:
    import catboost
    import lightgbm
    import onnxruntime
    import xgboost  # noqa: F401 - all are here before the first fork

    from mlops_plugin.formats.importing.skops_import import import_skops_io
    from support import native_models

    assert catboost
    assert lightgbm
    assert onnxruntime
    import_skops_io()
    rows = native_models.as_queried(native_models.SHOP).slice(0, 16)
    folder, files, start, stop = json.loads(sys.stdin.read())
    found = []
    for file in files:
        content = Path(folder, file["file"]).read_bytes()
        for damage, broken in damaged(content, file["file"], range(start, stop)):
            path = Path(folder, "damaged")
            path.write_bytes(broken)
            more = {name: tuple(value) for name, value in file["more"].items()}
            end, text = _ended(path, file["format"], more, rows)
            found.append(asdict(Outcome(file["file"], damage, end, text)))
    print(json.dumps(found))


def _ended(path: Path, kind: str, more: dict[str, Any], rows: Any) -> tuple[str, str]:
    """Ask it in a forked process."""
    said, says = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(said)
        _ask(path, kind, more, rows, says)
    os.close(says)
    with os.fdopen(said, "rb") as heard:
        text = heard.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        name = signal.Signals(-code).name
        return (HUNG if name in ("SIGALRM", "SIGXCPU") else ENDED), name
    return _CODES.get(code, RAISED), text


def _ask(path: Path, kind: str, more: dict[str, Any], rows: Any, says: int) -> None:
    from support.native_models import load

    signal.alarm(_LIMIT_S)
    most = _data_bytes() + _MORE_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_LIMIT_CPU_S, _LIMIT_CPU_S + 1))
    code = 4
    with contextlib.suppress(BaseException):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        pin: dict[str, Any] = {"sha256": sha256(path.read_bytes()).hexdigest()} if kind in _PINNED else {}
        try:
            load(path, kind, **pin, **more).predict(rows)
            code = 0
        except MlopsError as error:
            code = 3
            os.write(says, str(error)[:2000].encode())
        except BaseException as error:  # noqa: BLE001 - that is what the test wants to know
            os.write(says, f"{type(error).__name__}: {error}"[:2000].encode())
    os._exit(code)


def _data_bytes() -> int:
    """What this process has of what RLIMIT_DATA limits."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmData"].split()[0]) << 10


if __name__ == "__main__":
    _main()
