"""How the native threads of a model's libraries wait for each other; set before any of them is loaded."""

from __future__ import annotations

import os


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait, unless the environment says otherwise.

    By default they spin. Where a core has other work to do, and a worker's cores have, a thread that waits
    for one that is not running burns the very time that one needs: HistGradientBoosting took five times as
    much of the processor. It is read once, when the first library with OpenMP is loaded.
    https://www.openmp.org/spec-html/5.0/openmpse55.html
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
