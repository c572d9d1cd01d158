"""A million rows over each way into a database, beside the script that people write for the same engine.

Every way reads rows of a key and 20 doubles and writes the predictions to the same database. The dispatch has
its libraries loaded, as in a worker that forks its tasks; the script's imports are not counted. Over `mysql`
also gradient boosting, a cold start and mode upsert. The first table and the first plot of
docs/performance.md are made of this.

    python -m benchmarks.ways_in [--rows 1000000] [--repeat 2] [--ways mysql postgres ...] [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.places import COLUMNS, ENGINES, UPSERTED, Place, open_place
from benchmarks.report.results import Result, replace, result, show
from benchmarks.warehouse import MODELS, Spent

WAYS = ("mysql", "odbc-mariadb", "postgres", "sqlite", "duckdb", "odbc-postgres")
SCRIPT = "script"
SCRIPT_COLD = "script, started cold"
TASKS = "four tasks"
SLOWEST = "the slowest of four tasks"
TASKS_COLD = "four tasks, started cold"
TOGETHER = "steps at the same time"
UPSERT_NEW = "four tasks, mode upsert, no key there"
UPSERT_KNOWN = "four tasks, mode upsert, all keys there"
OVER = "over "
LINEAR, TREES = MODELS
QUICK_ROWS = 10_000
# Psqlodbc sends each row by itself: a million would take minutes, and teach nothing more.
_FEWER_ROWS = {"odbc-postgres": 200_000}

Runs = dict[tuple[str, str], list[Spent]]


def measure(place: Place, repeat: int, scripts: Runs) -> Iterator[list[Result]]:
    """Everything over one way; after each turn the medians so far.

    `scripts` are the runs of the script on the same engine with as many rows; those that it lacks are added.
    """
    is_full = place.way.name == "mysql"
    runs: Runs = {}
    for model in MODELS if is_full else [LINEAR]:
        if (SCRIPT, model) not in scripts:
            spent = place.script(model)
            scripts[SCRIPT, model] = [spent.without_import()]
            scripts[SCRIPT_COLD, model] = [spent]
        runs |= {(name, of): each for (name, of), each in scripts.items() if of == model}
        for _ in range(repeat):
            for name, spent in _dispatched(place, model, is_full=is_full):
                runs.setdefault((name, model), []).append(spent)
            yield list(_results(place, runs))


def _dispatched(place: Place, model: str, *, is_full: bool) -> Iterator[tuple[str, Spent]]:
    place.configure(model)
    steps = place.dispatch(model)
    yield TASKS, _all_of(steps)
    yield SLOWEST, max(steps, key=lambda each: each.seconds)
    yield TOGETHER, place.dispatch_together(model)
    if is_full and model == LINEAR:
        yield TASKS_COLD, _all_of(place.dispatch(model, is_cold=True))
        place.configure(model, mode="upsert", table=UPSERTED)
        place.forget_upserted()
        yield UPSERT_NEW, _all_of(place.upsert(model))
        yield UPSERT_KNOWN, _all_of(place.upsert(model))


def _all_of(steps: Sequence[Spent]) -> Spent:
    return sum(steps, Spent(0.0, 0.0, 0.0))


def _results(place: Place, runs: Runs) -> Iterator[Result]:
    timed = partial(result, rows=place.rows, columns=len(COLUMNS))
    for (name, model), spent in runs.items():
        peer = SCRIPT_COLD if name == TASKS_COLD else SCRIPT
        compared = None if name in (SCRIPT, SCRIPT_COLD, SLOWEST) else (peer, runs[peer, model])
        yield timed(f"{OVER}{place.way.name}: {name}", spent, model=model, peer=compared)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS} rows once; keeps nothing")
    options = parser.parse_args(arguments)
    rows, repeat = (QUICK_ROWS, 1) if options.quick else (options.rows, options.repeat)
    print(f"an id and {len(COLUMNS)} doubles, medians of {repeat}, the script once", flush=True)
    scripts: dict[tuple[str, int], Runs] = {}
    for way in options.ways:
        of_way = min(rows, _FEWER_ROWS.get(way, rows))
        with open_place(way, of_way) as place:
            for results in measure(place, repeat, scripts.setdefault((ENGINES[way], of_way), {})):
                if not options.quick:
                    replace(f"{OVER}{way}: ", results)
        show(results)


if __name__ == "__main__":
    main()
