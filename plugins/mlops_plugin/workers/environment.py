"""Which environment variables a model's process inherits: an allow-list, as all others may be secrets."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS", "ARROW_IO_THREADS"),
    "1",
)
_ENVIRONMENT = frozenset(
    ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "AIRFLOW_HOME")
)
_ENVIRONMENT_OF_LIBRARIES = (
    *("LC_", "OPENBLAS_", "OMP_", "MKL_", "KMP_", "GOMP_", "BLIS_", "NUMEXPR_", "ARROW_", "MALLOC_"),
    *("LOKY_", "SKLEARN_", "PYTHONHASHSEED", "PYTHONWARNINGS"),
)


def library_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What libraries read once, when they are loaded."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(("LD_", *_ENVIRONMENT_OF_LIBRARIES))
        and name != "LC_CTYPE"  # Python sets that itself
    }


def environment_of_model(*, is_one_thread: bool, has_own_python: bool = False) -> dict[str, str]:
    """What a model's process gets of this one's environment, with the places where this one finds modules.

    `has_own_python`: without those places; the libraries there are another Python's.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_OF_LIBRARIES)
    }
    if has_own_python:
        return {**kept, **(_ONE_THREAD if is_one_thread else {})}
    path = os.pathsep.join(dict.fromkeys(entry for entry in sys.path if entry))
    # PYTHONSAFEPATH: the folder where the caller happens to run is no place to import from, or to read.
    own = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    return {**kept, **(_ONE_THREAD if is_one_thread else {}), **own}
