"""Models that tell where they run, or misbehave there; pickled by tests, run by the steps of a dispatch."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np

LOADED_IN_THIS_PROCESS: list[str] = []


class Placed:
    """A regressor that answers the id of its process, and leaves a trace in the process that loads it."""

    n_features_in_ = 3
    _estimator_type = "regressor"

    def predict(self, rows: Any) -> Any:
        return np.full(len(rows), float(os.getpid()))

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}

    def __setstate__(self, _state: dict[str, int]) -> None:
        LOADED_IN_THIS_PROCESS.append(type(self).__name__)


class Drawing(Placed):
    """Answers a random number."""

    def predict(self, rows: Any) -> Any:
        return np.random.random(len(rows))


class Hanging(Placed):
    """Hangs in native code with the interpreter's lock held, if feature `a` is 100."""

    def predict(self, rows: Any) -> Any:
        if float(np.asarray(rows, dtype=float)[0, 0]) == 100:
            print("the model hangs now", flush=True)
            ctypes.PyDLL(None).sleep(3600)
        return super().predict(rows)


class Wide(Placed):
    """Reads 600 columns and answers the first."""

    n_features_in_ = 600

    def predict(self, rows: Any) -> Any:
        return np.asarray(rows, dtype=float)[:, 0]


class Chatting(Placed):
    """Prints a megabyte of lines for each row, some of them with what could deceive a terminal."""

    def predict(self, rows: Any) -> Any:
        print("first line \x1b[31mred\x07")
        for _ in range(10_000):
            print("x" * 100)
        return super().predict(rows)


class Reading(Placed):
    """Reads a file that is not its artifact."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getstate__(self) -> Any:
        return {"path": self.path}

    def __setstate__(self, state: Any) -> None:
        self.path = state["path"]

    def predict(self, rows: Any) -> Any:
        return np.full(len(rows), float(self.path.read_text()))


class Choosy(Placed):
    """Refuses a row whose feature `a` is 100."""

    def predict(self, rows: Any) -> Any:
        values = np.asarray(rows, dtype=float)[:, 0]
        if (values == 100).any():
            raise ValueError("a hundred is too much")
        return values


class Spawning(Placed):
    """Starts a process in a session of its own, once, and answers its id."""

    pid: int | None = None

    def predict(self, rows: Any) -> Any:
        self.pid = self.pid or self._spawn()
        return np.full(len(rows), float(self.pid))

    def _spawn(self) -> int:
        command = "import os, time; os.fork() and os._exit(0); os.setsid(); print(os.getpid(), flush=True); "
        child = subprocess.Popen(
            [sys.executable, "-c", f"{command}time.sleep(3600)"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        child.wait()
        return pid


class Lying:
    """Says while it is loaded that it is another artifact."""

    def __reduce__(self) -> Any:
        return (_lie, ())

    @classmethod
    def made(cls) -> Self:
        return cls()


def _lie() -> None:
    frame = sys._getframe()
    while frame.f_code.co_name != "answer_one":
        assert frame.f_back is not None
        frame = frame.f_back
    claimed = {
        "kind": "loaded",
        "artifact_sha256": "a" * 64,
        "signature_sha256": None,
        "features": ["a", "b", "c"],
        "confinement": [],
    }
    header = json.dumps(claimed).encode()
    os.write(
        int(sys.argv[1]), struct.pack("!4sQIQ", b"mlp1", frame.f_locals["number"], len(header), 0) + header
    )
