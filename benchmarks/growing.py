"""What a dispatch costs as its input grows: 10 thousand to 10 million rows, 10 to 500 feature columns.

Each size is dispatched in processes of its own, as `data_plane` does; so is the input in 1 to 16 partitions.

    python -m benchmarks.growing [--most-rows 10000000] [--repeat 1] [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from benchmarks.results import Result, result, show, store
from benchmarks.warehouse import Spent, Warehouse, open_warehouse

MODEL = "LogisticRegression"
BY_SIZE = "dispatch by size"
ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
COLUMNS = (10, 20, 50, 100, 200, 500)
COLUMNS_ROWS = 100_000


def by_rows(most_rows: int, repeat: int) -> Iterator[Result]:
    """One table, dispatched up to each number of rows."""
    with open_warehouse(most_rows) as warehouse:
        for rows in (rows for rows in ROWS if rows <= most_rows):
            warehouse.rows = rows
            yield from _dispatched(warehouse, repeat)


def by_columns(rows: int, repeat: int) -> Iterator[Result]:
    """A table for each number of feature columns."""
    for columns in COLUMNS:
        with open_warehouse(rows, columns) as warehouse:
            yield from _dispatched(warehouse, repeat)


def _dispatched(warehouse: Warehouse, repeat: int) -> Iterator[Result]:
    warehouse.configure(MODEL, {}, {})
    runs: dict[str, list[Spent]] = {}
    for _ in range(repeat):
        warehouse.remove()
        steps = warehouse.dispatch(MODEL)
        runs.setdefault(BY_SIZE, []).append(sum(steps.values(), Spent(0.0, 0.0, 0.0)))
        for step, spent in steps.items():
            runs.setdefault(f"{BY_SIZE}: {step}", []).append(spent)
    size = (warehouse.rows, len(warehouse.columns))
    for name, spents in runs.items():
        yield result(name, spents, rows=size[0], columns=size[1], model=MODEL)


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--most-rows", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="100,000 rows at most; keeps nothing")
    options = parser.parse_args()
    most_rows = 100_000 if options.quick else options.most_rows
    for measured in (by_columns(COLUMNS_ROWS, options.repeat), by_rows(most_rows, options.repeat)):
        for each in measured:
            show([each])
            if not options.quick:
                store([each])


if __name__ == "__main__":
    main()
