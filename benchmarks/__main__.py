"""Runs benchmarks, all or those that are named: `make bench`, `make bench PART="ways_in growing"`.

Options behind the names go to each of them: `make bench PART="ways_in --repeat 1"`. With --quick they take
little data and keep nothing. Afterwards docs/performance.md is written again.
"""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import takewhile

# Each is loaded when its turn comes: all of them need most of the libraries that there are.
PARTS = {
    "parsing": "benchmarks.parsing",
    "growing": "benchmarks.growing",
    "contract": "benchmarks.contract",
    "isolation": "benchmarks.isolation",
    "formats": "benchmarks.formats",
    "orchestration": "benchmarks.orchestration",
    "dispatches": "benchmarks.dispatches",
    "serving": "benchmarks.serving.one_row",
    "probes": "benchmarks.probes",
    "monitor": "benchmarks.monitor",
    "ways_in": "benchmarks.ways_in",
}
WITHOUT_QUICK = ("isolation", "dispatches", "serving", "probes", "monitor")


def main() -> None:
    """Run the parts one after the other."""
    named = list(takewhile(lambda word: not word.startswith("-"), sys.argv[1:]))
    options = sys.argv[1 + len(named) :]
    unknown = [name for name in named if name not in PARTS]
    if unknown:
        raise SystemExit(f"there is no part {', '.join(unknown)}; parts are {', '.join(PARTS)}")
    is_quick = "--quick" in options
    for name in named or PARTS:
        if is_quick and name in WITHOUT_QUICK:
            continue
        print(f"== {name}", flush=True)
        import_module(PARTS[name]).main(options)
        print()
    if not is_quick:
        import_module("benchmarks.report.performance_page").main()


if __name__ == "__main__":
    main()
