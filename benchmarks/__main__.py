"""Runs every benchmark: `make bench`; with --quick on little data, and keeping nothing."""

from __future__ import annotations

import sys

from benchmarks import (
    contract,
    data_plane,
    dispatches,
    growing,
    orchestration,
    parsing,
    performance_page,
    showroom,
)

for benchmark in (parsing, data_plane, growing, orchestration):
    benchmark.main()
    print()
if "--quick" not in sys.argv:
    for benchmark in (dispatches, contract, showroom):
        benchmark.main()
        print()
    performance_page.main()
