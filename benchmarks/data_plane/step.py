"""One process of the data plane's benchmarks: a step, the peer, or a floor.

Airflow's own imports are paid before the clock starts, as in a task; what the work imports on top is timed,
unless the process is asked to have it loaded (`--warm`), as a worker that forks its tasks has. Its last line
is JSON: seconds, CPU seconds of this process, its peak memory in MB (VmHWM), and for the peer how many of
both went into importing libraries.

    python -m benchmarks.data_plane.step --task '{"what": "step", "step": "collect", ...}' [--warm]

Without a task it loads the libraries, and does each task that it reads from its input, a line of JSON, in a
process that it forks, as a worker does.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FAILED = "failed"
WARM = {"ordinary": ("benchmarks.data_plane.peer",)}


def load_libraries(what: str) -> None:
    """Load what a process has that was forked from one with the libraries loaded."""
    if what == "step":
        from mlops_plugin.preload import preload
        from mlops_plugin.workers.forking import SERVERS

        preload(["scheduler"])
        for (
            server
        ) in SERVERS:  # it would still be loading while the step is timed, and no model here needs it
            server.kill()
            server.wait()
    for module in WARM.get(what, ()):
        importlib.import_module(module)


def run_step(task: dict[str, Any]) -> None:
    """A step of the dispatch as its task runs it, or all of them as one task does (`together`)."""
    from mlops_plugin.formats.native_threads import wait_passively

    wait_passively()  # as a task does
    from mlops_plugin.config.loader import load_config
    from mlops_plugin.pipeline import runner
    from mlops_plugin.pipeline.deployment import Deployment
    from mlops_plugin.pipeline.dispatch import Dispatch
    from mlops_plugin.pipeline.recording.step_record import Attempt

    loaded = load_config(Path(task["config"]), only=task["model"])
    model = loaded.model(task["model"])
    dispatch = Dispatch(id=task["dispatch"], model=model, origin="manual")
    deployment = Deployment.of_airflow(loaded.config.events, loaded.config.staging)
    attempt = Attempt(partition=task.get("partition"))
    if task["step"] == "together":
        runner.run_dispatch(dispatch, deployment, lambda: model.source.query, _unwatched)
        return
    runner.run_step(task["step"], dispatch, deployment, query=lambda: model.source.query, attempt=attempt)


@contextlib.contextmanager
def _unwatched(_step: str) -> Iterator[Callable[[int], None]]:
    yield lambda rows: None  # noqa: ARG005


def run_ordinary(task: dict[str, Any]) -> None:
    """The script that people write."""
    from benchmarks.data_plane.peer import load_model, predict_table

    model = load_model(task["artifact"], task["trusted"])
    predict_table(task["url"], model, task["query"], task["table"], task["chunk_rows"])


def run_floor(task: dict[str, Any]) -> None:
    """Only reading, or only writing, by the driver that the dispatch uses."""
    from benchmarks.data_plane.floor import read, write
    from mlops_plugin.connections import ConnectionSpec

    spec = ConnectionSpec(**task["spec"])
    if task["floor"] == "read":
        read(spec, task["query"])
    else:
        write(spec, Path(task["rows_file"]), task["table"], task["replaced"], task.get("dispatch", 0))


RUN: dict[str, Callable[[dict[str, Any]], None]] = {
    "step": run_step,
    "ordinary": run_ordinary,
    "floor": run_floor,
}


def peak_mb() -> float:
    """This process's own peak; `ru_maxrss` would start at the parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None, "no VmHWM in /proc/self/status: this benchmark needs Linux"
    return int(found[1]) / 1024


def run_forked(task: dict[str, Any]) -> None:
    """Run a task in a process forked from this one; its line is `FAILED` if the task fails."""
    child = os.fork()
    if child:
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            print(FAILED, flush=True)
        return
    status = 1
    try:
        measure(task)
        status = 0
    except BaseException:  # noqa: BLE001 -- shown here: a forked process must not go on as its parent
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def measure(task: dict[str, Any]) -> None:
    """Run a task and print what it cost."""
    began, cpu = time.perf_counter(), time.process_time()
    if task["what"] == "ordinary":
        importlib.import_module("benchmarks.data_plane.peer")
    spent = {"import_s": time.perf_counter() - began, "import_cpu_s": time.process_time() - cpu}
    RUN[task["what"]](task)
    spent |= {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    print(json.dumps({**spent, "peak_mb": peak_mb()}), flush=True)


def main() -> None:
    """Run one task, or those that come in, and say what each cost."""
    import airflow.sdk.execution_time.supervisor  # noqa: F401 -- a task is forked from a process that has it

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--task", type=json.loads)
    parser.add_argument("--warm", action="store_true")
    options = parser.parse_args()
    if options.task is None:
        load_libraries("step")
        for line in sys.stdin:
            run_forked(json.loads(line))
        return
    if options.warm:
        load_libraries(options.task["what"])
    measure(options.task)


if __name__ == "__main__":
    main()
