"""A million rows through a dispatch, beside the script that people write and the floors of the database.

Starts a private MariaDB and runs by turns: the ordinary way (pandas over SQLAlchemy and mysqlclient), whole
and in chunks, into an empty table with the columns that a sink shows; the dispatch's own steps as processes
of their own with staging and event store, into an empty sink; and reading alone and writing the sink's narrow
rows alone. Prints medians, and keeps each as soon as it is measured.

    python -m benchmarks.data_plane.steps [--rows 1000000] [--repeat 3] [--models NAME] [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial

import arrow_odbc
import pyarrow as pa

from benchmarks.report.results import Result, result, show, store
from benchmarks.warehouse import MODELS, ROWS_TABLE, Spent, Warehouse, open_warehouse, peer_driver

CHUNK_ROWS = 50_000
QUICK_ROWS = 50_000
PARTITIONS = 2
LOADED = ", libraries loaded"
WHOLE = "ordinary, whole"
ORDINARY = f"ordinary, chunks of {CHUNK_ROWS:,}"
ORDINARY_LOADED = ORDINARY + LOADED
DISPATCH = "dispatch"
TOGETHER = "dispatch, steps at the same time"
PARTITIONED = f"dispatch, {PARTITIONS} partitions side by side"
UPSERT = "dispatch, upsert into a table of one row"
UPSERT_TABLE = "upserted"
STEPS = ("plan", "collect", "log", "infer", "persist")
READ, WRITE = "reading alone", "writing alone"
FLOORS = "reading alone and writing alone"

Runs = dict[tuple[str, str | None], list[Spent]]


def measure(warehouse: Warehouse, models: Sequence[str], repeat: int) -> Iterator[list[Result]]:
    """Run every way by turns, `repeat` times; after each run, the medians so far."""
    runs: Runs = {}
    _make_rows_file(warehouse)
    for number in range(repeat):
        for name, what in ((READ, "read"), (WRITE, "write")):
            warehouse.empty()
            runs.setdefault((name, None), []).append(warehouse.floor(what))
        for model in models:
            for name, spent in _ways(warehouse, model, is_first=number == 0):
                runs.setdefault((name, model), []).append(spent)
                print(f"  {name}, {model}: {spent.seconds:.2f} s", flush=True)
                yield list(_results(warehouse, runs))


def _ways(warehouse: Warehouse, model: str, *, is_first: bool) -> Iterator[tuple[str, Spent]]:
    by_id = {"partitions": {"column": "id", "count": PARTITIONS}}
    ordinary = warehouse.ordinary(model, CHUNK_ROWS)
    yield ORDINARY, ordinary
    yield ORDINARY_LOADED, ordinary.without_import()
    for is_loaded in (False, True):
        warehouse.configure(model, {}, {})
        warehouse.empty()
        yield from _with_steps(DISPATCH, warehouse.dispatch(model, warm=is_loaded), is_loaded)
        warehouse.empty()
        yield TOGETHER + (LOADED if is_loaded else ""), warehouse.together(model, warm=is_loaded)
        warehouse.configure(model, by_id, {})
        warehouse.empty()
        steps = warehouse.dispatch(model, warm=is_loaded, partitions=PARTITIONS)
        yield from _with_steps(PARTITIONED, steps, is_loaded)
    if model == "LogisticRegression":
        sink = {"mode": "upsert", "table": UPSERT_TABLE}
        warehouse.remove(UPSERT_TABLE)
        warehouse.configure(model, {"query": f"{warehouse.query} AND id = 1"}, sink)
        warehouse.dispatch(model)
        warehouse.configure(model, {}, sink)
        yield from _with_steps(UPSERT, warehouse.dispatch(model), False)
    if is_first:
        yield WHOLE, warehouse.ordinary(model, None)


def _with_steps(name: str, steps: dict[str, Spent], is_loaded: bool) -> Iterator[tuple[str, Spent]]:
    name += LOADED if is_loaded else ""
    yield name, sum(steps.values(), Spent(0.0, 0.0, 0.0))
    yield from ((f"{name}: {step}", spent) for step, spent in steps.items())


def _results(warehouse: Warehouse, runs: Runs) -> Iterator[Result]:
    timed = partial(result, rows=warehouse.rows, columns=len(warehouse.columns))
    floor = [read + write for read, write in zip(runs[READ, None], runs[WRITE, None], strict=True)]
    yield timed(READ, runs[READ, None])
    yield timed(WRITE, runs[WRITE, None])
    yield timed(FLOORS, floor)
    for (name, model), spent in runs.items():
        if model is None:
            continue
        peer = None
        if name in (DISPATCH, TOGETHER, PARTITIONED, UPSERT, WHOLE):
            peer = ORDINARY
        elif name in (DISPATCH + LOADED, TOGETHER + LOADED, PARTITIONED + LOADED):
            peer = ORDINARY_LOADED
        yield timed(name, spent, model=model, peer=None if peer is None else (peer, runs[peer, model]))


def _make_rows_file(warehouse: Warehouse) -> None:
    """Dispatch once, so that the sink exists and its rows can be written again without a dispatch."""
    warehouse.configure("LogisticRegression", {}, {})
    warehouse.dispatch("LogisticRegression")
    connection = arrow_odbc.connect(warehouse.odbc)
    reader = connection.read_arrow_batches(f"SELECT * FROM {ROWS_TABLE} ORDER BY id", batch_size=CHUNK_ROWS)
    with pa.OSFile(str(warehouse.rows_file), "wb") as sink, pa.ipc.new_file(sink, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS} rows once; keeps nothing")
    options = parser.parse_args(arguments)
    rows, repeat = (QUICK_ROWS, 1) if options.quick else (options.rows, options.repeat)
    print(f"{rows} rows of an id and 20 doubles in MariaDB, medians of {repeat}; peer by {peer_driver()[0]}")
    with open_warehouse(rows) as warehouse:
        for results in measure(warehouse, options.models, repeat):
            if not options.quick:
                store(results)
    show(results)


if __name__ == "__main__":
    main()
