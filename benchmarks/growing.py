"""What a dispatch costs as its input grows: rows, feature columns, and the partitions it is divided into.

Each size is dispatched in processes of its own, as `data_plane` does: 10 thousand to 10 million rows (in one
statement, in pages, and from a million on in partitions of 500,000), 10 to 500 feature columns, and 1 to 16
partitions.

    python -m benchmarks.growing [--by rows columns partitions] [--columns 10 500]
        [--most-rows 10000000] [--repeat 1] [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from benchmarks.report.results import Result, result, show, store
from benchmarks.warehouse import Spent, Warehouse, open_warehouse

MODEL = "LogisticRegression"
BY_SIZE = "dispatch by size"
PART_ROWS = 500_000
IN_PAGES = f"{BY_SIZE}, in pages"
IN_PARTS = f"{BY_SIZE}, partitions of {PART_ROWS:,} rows"
BY_PARTITIONS = "dispatch in partitions"
ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
COLUMNS = (10, 20, 50, 100, 200, 500)
COLUMNS_ROWS = 100_000
PARTITIONS = (1, 2, 4, 8, 16)
PARTITIONS_ROWS = 1_000_000


def by_rows(most_rows: int, repeat: int) -> Iterator[Result]:
    """One table, dispatched up to each number of rows."""
    with open_warehouse(most_rows, models=[MODEL]) as warehouse:
        for rows in (rows for rows in ROWS if rows <= most_rows):
            warehouse.rows = rows
            yield from _dispatched(warehouse, BY_SIZE, repeat)
            yield from _dispatched(warehouse, IN_PAGES, repeat, {"pages": {"column": "id"}})
            if rows >= 2 * PART_ROWS:
                yield from _dispatched(warehouse, IN_PARTS, repeat, _in_partitions(rows // PART_ROWS))


def by_columns(numbers: Sequence[int], rows: int, repeat: int) -> Iterator[Result]:
    """A table for each number of feature columns."""
    for columns in numbers:
        with open_warehouse(rows, columns, [MODEL]) as warehouse:
            yield from _dispatched(warehouse, BY_SIZE, repeat)


def by_partitions(rows: int, repeat: int) -> Iterator[Result]:
    """One table, in more and more partitions, two side by side."""
    with open_warehouse(rows, models=[MODEL]) as warehouse:
        for count in PARTITIONS:
            name = f"{BY_PARTITIONS}: {count}"
            yield from _dispatched(warehouse, name, repeat, _in_partitions(count) if count > 1 else {})


def _in_partitions(count: int) -> dict[str, Any]:
    return {"partitions": {"column": "id", "count": count}}


def _dispatched(
    warehouse: Warehouse, name: str, repeat: int, source: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[Result]:
    """All steps together; and the steps that differ, of a dispatch by size."""
    partitions = source.get("partitions", {}).get("count", 0)
    warehouse.configure(MODEL, source, {})
    runs: dict[str, list[Spent]] = {}
    for _ in range(repeat):
        warehouse.remove()
        steps = warehouse.dispatch(MODEL, partitions=partitions)
        runs.setdefault(name, []).append(sum(steps.values(), Spent(0.0, 0.0, 0.0)))
        shown = {BY_SIZE: list(steps), IN_PAGES: ["collect"]}.get(name, [])
        for step in shown:
            runs.setdefault(f"{name}: {step}", []).append(steps[step])
    for each, spents in runs.items():
        yield result(each, spents, rows=warehouse.rows, columns=len(warehouse.columns), model=MODEL)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ways = ("columns", "partitions", "rows")
    parser.add_argument("--by", nargs="+", choices=ways, default=ways)
    parser.add_argument("--columns", nargs="+", type=int, default=COLUMNS, help="the feature columns to try")
    parser.add_argument("--most-rows", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="100,000 rows at most; keeps nothing")
    options = parser.parse_args(arguments)
    most_rows = min(options.most_rows, 100_000) if options.quick else options.most_rows
    for way in options.by:
        match way:
            case "columns":
                measured = by_columns(options.columns, min(COLUMNS_ROWS, most_rows), options.repeat)
            case "partitions":
                measured = by_partitions(min(PARTITIONS_ROWS, most_rows), options.repeat)
            case _:
                measured = by_rows(most_rows, options.repeat)
        for each in measured:
            show([each])
            if not options.quick:
                store([each])


if __name__ == "__main__":
    main()
