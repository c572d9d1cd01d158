"""One row through scikit-learn in a loop, and between other work: what bounds the time of a single request.

Between two requests of one client, other processes use the processor, and the model's code leaves its caches.
The other work here uses no memory to speak of, so that what it costs is the least.

    python -m benchmarks.serving.cold_calls [--calls 500] [--between-ms 4]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

_FEATURES = 20
_NS_PER_US = 1000


def microseconds(call: Callable[[], object], between: Callable[[], object], calls: int) -> float:
    """The median time of a call, each after something else."""
    times = []
    for _ in range(calls):
        between()
        began = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / _NS_PER_US


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--between-ms", type=float, default=4)
    options = parser.parse_args(arguments)
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(3).normal(size=(2000, _FEATURES))
    model, row = LogisticRegression().fit(rows, rows[:, 0] + rows[:, 1] > 0), rows[:1]
    seconds = options.between_ms / 1000

    def compute() -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass

    between = {"in a loop": lambda: None, "after sleep": lambda: time.sleep(seconds), "after a loop": compute}
    found = {
        name: microseconds(lambda: model.predict_proba(row), each, options.calls)
        for name, each in between.items()
    }
    alone = found["in a loop"]
    print(f"predict_proba of one row, {options.between_ms:g} ms of something else before each call")
    for name, each in found.items():
        print(f"{name:14}{each:8.0f} us{each / alone:7.2f} times")


if __name__ == "__main__":
    main()
