"""How the native threads of a model's libraries wait for each other; set before any of them is loaded."""

from __future__ import annotations

import os


def thread_limit() -> int:
    """How many threads a library may use that does not ask OpenMP: as many as OpenMP would."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(wanted), processors) if wanted.isdigit() and int(wanted) > 0 else processors


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait, unless the environment says otherwise.

    By default they spin. Where a core has other work to do, and a worker's cores have, a thread that waits
    for one that is not running burns the very time that one needs: HistGradientBoosting took five times as
    much of the processor. It is read once, when the first library with OpenMP is loaded.
    https://www.openmp.org/spec-html/5.0/openmpse55.html
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
