"""Runs benchmarks, all or those that are named: `make bench`, `make bench PART="ways_in growing"`.

Options behind the names go to each of them: `make bench PART="ways_in --repeat 1"`. With --quick they take
little data and keep nothing. Afterwards docs/performance.md is written again.
"""

from __future__ import annotations

import sys
from itertools import takewhile

from benchmarks import (
    contract,
    dispatches,
    formats,
    growing,
    isolation,
    monitor,
    orchestration,
    parsing,
    probes,
    ways_in,
)
from benchmarks.report import performance_page
from benchmarks.serving import one_row

PARTS = {
    "parsing": parsing.main,
    "growing": growing.main,
    "contract": contract.main,
    "isolation": isolation.main,
    "formats": formats.main,
    "orchestration": orchestration.main,
    "dispatches": dispatches.main,
    "serving": one_row.main,
    "probes": probes.main,
    "monitor": monitor.main,
    "ways_in": ways_in.main,
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
        PARTS[name](options)
        print()
    if not is_quick:
        performance_page.main()


if __name__ == "__main__":
    main()
