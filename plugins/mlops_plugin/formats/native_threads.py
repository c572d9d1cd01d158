"""The threads of a model's libraries: how native ones wait for each other, and which `n_jobs` gets."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

_SHORTEST_SPIN = "4"  # as a power of two of the processor's cycles


def thread_limit() -> int:
    """How many threads a library may use that does not ask OpenMP: as many as OpenMP would."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(wanted), processors) if wanted.isdigit() and int(wanted) > 0 else processors


def wait_passively() -> None:
    """Let the threads of OpenMP and OpenBLAS sleep while they wait, unless the environment says otherwise.

    By default they spin. Where a core has other work to do, and a worker's cores have, a thread that waits
    for one that is not running burns the very time that one needs: HistGradientBoosting took five times as
    much of the processor, and a million rows of a linear model, in 20 batches, 0.4 s instead of 0.02 s. It is
    read once, when the first library with them is loaded.
    https://www.openmp.org/spec-html/5.0/openmpse55.html
    https://github.com/OpenMathLib/OpenBLAS/blob/develop/driver/others/blas_server.c
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", _SHORTEST_SPIN)


def share_jobs_among_threads(jobs: int | None) -> None:
    """Let estimators with `n_jobs` use threads, `jobs` of them if they do not say how many.

    joblib's own threads need a semaphore, which is a file to the kernel and so denied to a confined process.
    Jobs within jobs are done one after the other.
    """
    import joblib
    from joblib.parallel import SequentialBackend, ThreadingBackend

    class Threads(ThreadingBackend):  # type: ignore[misc]  # joblib has no types
        _pool: ThreadPool | None = None

        def _get_pool(self) -> ThreadPool:
            if self._pool is None:
                self._pool = ThreadPool(self._n_jobs)
            return self._pool

        def get_nested_backend(self) -> tuple[Any, None]:
            return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    joblib.register_parallel_backend("threading", Threads)
    if hasattr(joblib, "parallel_config"):
        joblib.parallel_config(backend="threading", **({} if jobs is None else {"n_jobs": jobs}))
    else:  # before joblib 1.3, in an environment of a model's own
        joblib.parallel_backend("threading", n_jobs=jobs)


class ThreadPool:
    """What joblib asks of a pool of `multiprocessing`."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads)

    def apply_async(
        self,
        job: Callable[..., Any],
        args: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> Outcome:
        """Run a job in a thread, then hand what it has returned or raised to a callback."""
        future = self._executor.submit(job, *args, **(named or {}))

        def tell(done: Future[Any]) -> None:
            if done.cancelled():
                return
            error = done.exception()
            if error is None and callback is not None:
                callback(done.result())
            elif error is not None and error_callback is not None:
                error_callback(error)

        future.add_done_callback(tell)
        return Outcome(future)

    def close(self) -> None:
        """No more jobs follow."""

    def terminate(self) -> None:
        """Leave out the jobs that wait, and wait for those that run."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class Outcome:
    """What becomes of a job."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def get(self, timeout: float | None = None) -> Any:
        """What it has returned; raises what it has raised."""
        return self._future.result(timeout)
