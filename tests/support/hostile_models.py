"""Models that behave until feature `a` of a row tells them not to; pickled by tests, loaded by workers."""

from __future__ import annotations

import ctypes
import os
import pickle
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mlops_plugin.workers.starting import MOST_THREADS

HANGS, EXITS, GROWS, PRINTS, RAISES, CRASHES, HANGS_IN_NATIVE_CODE, TELLS_THREADS, LOOKS_AROUND = range(
    100, 109
)
HOARDS, MULTIPLIES = 109, 110

HANGING = "hanging"  # the name that its process has by then
_PR_SET_NAME = 15


class Hostile:
    """A regressor that answers `a`, or does what `a` says."""

    n_features_in_ = 3
    _estimator_type = "regressor"

    def predict(self, rows: Any) -> Any:
        return np.array([self._answer(value) for value in np.asarray(rows, dtype=float)[:, 0]])

    def _answer(self, value: float) -> float:
        match int(value):
            case 100:
                ctypes.CDLL(None).prctl(_PR_SET_NAME, HANGING.encode())
                time.sleep(3600)
            case 101:
                os._exit(7)
            case 102:
                hoard = []
                while True:
                    hoard.append(np.empty(1 << 22))
            case 103:
                print("x" * 100_000)
                os.write(1, b"raw bytes\n")
                sys.stderr.write("and more\n")
            case 104:
                raise RuntimeError("the model does not feel like it")
            case 105:
                ctypes.string_at(0)
            case 106:
                ctypes.PyDLL(None).sleep(3600)  # holds the interpreter's lock
            case 107:
                return len(list(Path("/proc/self/task").iterdir()))
            case 108:
                secrets = [name for name in os.environ if name.startswith(("AIRFLOW__", "AIRFLOW_CONN_"))]
                return len(secrets)
            case 109:
                return _hoard()
            case 110:
                threading.stack_size(1 << 16)
                for _ in range(MOST_THREADS + 100):
                    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
                time.sleep(3600)
        return value


def _hoard() -> float:
    """Keep 1.2 GB in memory that can no longer be written, and so is no data that the kernel limits."""
    libc, piece = ctypes.CDLL(None), 16 << 20
    libc.mmap.restype = ctypes.c_void_p
    for _ in range(75):
        place = libc.mmap(None, ctypes.c_size_t(piece), 3, 0x22, -1, ctypes.c_long(0))
        ctypes.memset(place, 1, piece)
        libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(piece), 1)
    time.sleep(3600)
    return 0.0


class Opens:
    """Answers with whole numbers, or with floats if all of them are missing, as `map` does."""

    n_features_in_ = 3

    def predict(self, rows: Any) -> Any:
        known = np.asarray(rows, dtype=float)[:, 0]
        return known.astype(int) if (known >= 5).all() else np.full(len(known), np.nan)


class SlowToLoad(Hostile):
    """Takes a second to load."""

    def __setstate__(self, _state: Any) -> None:
        time.sleep(1)

    def __getstate__(self) -> Any:
        return {"a": 1}


class SlowToDescribe(Hostile):
    """Takes a second whenever somebody asks what kind of model it is."""

    @property
    def _estimator_type(self) -> str:  # type: ignore[override]
        time.sleep(1)
        return "regressor"


def save(model: Any, path: Path) -> dict[str, str]:
    """Pickle a model; returns what `model:` of its entry says."""
    content = pickle.dumps(model)
    path.write_bytes(content)
    return {"format": "pickle", "uri": path.name, "sha256": sha256(content).hexdigest()}
