"""Dispatches models as a Celery worker does: libraries are loaded first, then daemonic processes are forked.

Started by tests/workers/test_forked_libraries.py with a workshop's folder, a time limit, libraries (in one
word, with commas), and names of models.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from pathlib import Path

from mlops_plugin.preload import preload
from support.workshop import Workshop

# A deployment may load them in its `airflow_local_settings.py`, as it does with ours.
MARK = "!! "  # of a line about a dispatch that did not end well, among those of logs


def _dispatch(folder: str, name: str) -> None:
    workshop = Workshop.again(Path(folder))
    workshop.run(workshop.dispatch(name))


def main() -> None:
    """Dispatch one model after the other, each in a forked process; name those that did not end well."""
    folder, limit_s, libraries, *names = sys.argv[1:]
    assert preload(["celery", "worker"])
    for library in libraries.split(","):
        importlib.import_module(library)
    context = multiprocessing.get_context("fork")
    for name in names:
        task = context.Process(target=_dispatch, args=(folder, name), daemon=True)
        task.start()
        task.join(float(limit_s))
        if task.is_alive():
            task.kill()
            print(f"{MARK}{name} hangs")
        elif task.exitcode != 0:
            print(f"{MARK}{name} ended with {task.exitcode}")


if __name__ == "__main__":
    main()
