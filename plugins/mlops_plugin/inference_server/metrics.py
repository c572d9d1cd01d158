"""Counts for Prometheus, of all processes of one `mlops serve` together; no model is named in them.

Each process counts in a file of its own that all can read, so whichever is asked answers for all.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

STATUSES = (200, 400, 401, 403, 404, 405, 413, 415, 422, 429, 500, 503)
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, float("inf"))
_REQUESTS, _BUCKETS = 0, len(STATUSES)
_SECONDS = _BUCKETS + len(_BUCKETS_S)
_PREDICTED, _REJECTED, _COMMITS, _RUNNING, _WAITING = range(_SECONDS + 1, _SECONDS + 6)
_SIZE = _WAITING + 1
_BYTES = 8  # of a double
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counts of this process, in `folder` beside those of the others; used by one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / f"{os.getpid()}.counts"
        path.write_bytes(bytes(_SIZE * _BYTES))
        with path.open("r+b") as file:
            self._values = memoryview(mmap.mmap(file.fileno(), _SIZE * _BYTES)).cast("d")

    def answered(self, status: int, seconds: float) -> None:
        """An infer request was answered."""
        known = status if status in STATUSES else 500
        self._values[_REQUESTS + STATUSES.index(known)] += 1
        place = next(place for place, most in enumerate(_BUCKETS_S) if seconds <= most)
        self._values[_BUCKETS + place] += 1
        self._values[_SECONDS] += seconds

    def judged(self, predicted: int, rejected: int) -> None:
        """Rows of a request were predicted and rejected."""
        self._values[_PREDICTED] += predicted
        self._values[_REJECTED] += rejected

    def stands(self, *, commits: int, running: int, waiting: int) -> None:
        """Transactions so far, and the requests that run and wait now."""
        for place, value in ((_COMMITS, commits), (_RUNNING, running), (_WAITING, waiting)):
            self._values[place] = value

    def text(self) -> str:
        """The counts of all processes in Prometheus's format."""
        return "\n".join(_lines(self._sums())) + "\n"

    def _sums(self) -> list[float]:
        sums = [0.0] * _SIZE
        for path in sorted(self._folder.glob("*.counts")):
            values = memoryview(path.read_bytes()).cast("d")
            # What a process has counted stays when it ends; what it was doing does not.
            lives = Path("/proc", path.stem).exists() or path.stem == str(os.getpid())
            for place, value in enumerate(values):
                sums[place] += value if lives or place not in (_RUNNING, _WAITING) else 0
        return sums


def _lines(sums: list[float]) -> Iterator[str]:
    yield "# HELP mlops_serve_requests_total Infer requests by the status of their answer."
    yield "# TYPE mlops_serve_requests_total counter"
    for place, status in enumerate(STATUSES):
        yield f'mlops_serve_requests_total{{status="{status}"}} {sums[_REQUESTS + place]:.0f}'
    yield "# HELP mlops_serve_request_seconds Time from an infer request to its answer."
    yield "# TYPE mlops_serve_request_seconds histogram"
    count = 0.0
    for place, most in enumerate(_BUCKETS_S):
        count += sums[_BUCKETS + place]
        bound = "+Inf" if most == float("inf") else most
        yield f'mlops_serve_request_seconds_bucket{{le="{bound}"}} {count:.0f}'
    yield f"mlops_serve_request_seconds_sum {sums[_SECONDS]!r}"
    yield f"mlops_serve_request_seconds_count {count:.0f}"
    for name, kind, place, text in (
        ("rows_predicted_total", "counter", _PREDICTED, "Rows that were answered with a prediction."),
        ("rows_rejected_total", "counter", _REJECTED, "Rows that were rejected."),
        ("event_transactions_total", "counter", _COMMITS, "Transactions that recorded dispatches."),
        ("requests_running", "gauge", _RUNNING, "Requests that are being answered."),
        ("requests_waiting", "gauge", _WAITING, "Requests that wait for their turn."),
    ):
        yield f"# HELP mlops_serve_{name} {text}"
        yield f"# TYPE mlops_serve_{name} {kind}"
        yield f"mlops_serve_{name} {sums[place]:.0f}"
