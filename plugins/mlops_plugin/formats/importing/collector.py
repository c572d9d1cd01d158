"""Lets Python's cycle collector rest while libraries and a model are loaded."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_resting() -> Iterator[None]:
    """Collect no cycles inside; afterwards as before.

    Loading makes a million objects that stay. The collector looks through all of them again and again, and
    through those of Airflow: a fifth of the time of importing scikit-learn.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
