"""Runs every benchmark, one after the other: `make bench`."""

from __future__ import annotations

from benchmarks import contract, dispatches, orchestration, parsing

for benchmark in (parsing, orchestration, dispatches, contract):
    benchmark.main()
    print()
