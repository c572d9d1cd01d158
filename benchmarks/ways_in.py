"""A million rows over each way into a database, beside the script that people write for the same engine.

Every way reads rows of a key and 20 doubles and writes the predictions to the same database. The dispatch has
its libraries loaded, as in a worker that forks its tasks; the script's imports are not counted. `collect` and
`persist` stand beside the same rows read and written by the driver alone. Over `mysql` also gradient
boosting, a cold start and mode upsert. The first table and the first plot of docs/performance.md are made of
this.

    python -m benchmarks.ways_in [--rows 1000000] [--repeat 3] [--ways mysql postgres ...] [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
_NEW, _KNOWN = ", mode upsert, no key there", ", mode upsert, all keys there"
UPSERT_NEW, UPSERT_KNOWN = TASKS + _NEW, TASKS + _KNOWN
COLLECT, PERSIST = "collect", "persist"
PERSIST_NEW, PERSIST_KNOWN = PERSIST + _NEW, PERSIST + _KNOWN
READ_ALONE, WRITE_ALONE = "reading alone", "writing alone"
NEW_ALONE, KNOWN_ALONE = WRITE_ALONE + _NEW, WRITE_ALONE + _KNOWN
OVER = "over "
LINEAR, TREES = MODELS
QUICK_ROWS = 10_000
# Psqlodbc sends each row by itself: a million would take minutes, and teach nothing more.
_FEWER_ROWS = {"odbc-postgres": 200_000}
_PEERS = {
    TASKS: SCRIPT,
    TOGETHER: SCRIPT,
    TASKS_COLD: SCRIPT_COLD,
    UPSERT_NEW: SCRIPT,
    UPSERT_KNOWN: SCRIPT,
    COLLECT: READ_ALONE,
    PERSIST: WRITE_ALONE,
    PERSIST_NEW: NEW_ALONE,
    PERSIST_KNOWN: KNOWN_ALONE,
    NEW_ALONE: WRITE_ALONE,
    KNOWN_ALONE: WRITE_ALONE,
}

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
    if model != LINEAR:
        return
    yield from ((COLLECT, steps[0]), (PERSIST, steps[-1]))
    yield from ((READ_ALONE, place.read_alone()), (WRITE_ALONE, place.write_alone()))
    if is_full:
        yield TASKS_COLD, _all_of(place.dispatch(model, is_cold=True))
        yield from _upserted(place, model)


def _upserted(place: Place, model: str) -> Iterator[tuple[str, Spent]]:
    place.configure(model, mode="upsert", table=UPSERTED)
    place.forget_upserted()
    for tasks, persist in ((UPSERT_NEW, PERSIST_NEW), (UPSERT_KNOWN, PERSIST_KNOWN)):
        steps = place.upsert(model)
        yield from ((tasks, _all_of(steps)), (persist, steps[-1]))
    yield from zip((NEW_ALONE, KNOWN_ALONE), place.upsert_alone(), strict=True)


def _all_of(steps: Sequence[Spent]) -> Spent:
    return sum(steps, Spent(0.0, 0.0, 0.0))


def _results(place: Place, runs: Runs) -> Iterator[Result]:
    timed = partial(result, rows=place.rows, columns=len(COLUMNS))
    for (name, model), spent in runs.items():
        peer = _PEERS.get(name)
        compared = None if peer is None else (peer, runs[peer, model])
        yield timed(f"{OVER}{place.way.name}: {name}", spent, model=model, peer=compared)


@dataclass(frozen=True)
class Overlap:
    """How long steps at the same time take, in times of the slowest of the four tasks.

    `bound` is what all their work would take, the server's too, if it filled every core of the machine.
    """

    model: str
    times: float
    bound: float


def overlaps(results: Sequence[Result], way: str) -> Iterator[Overlap]:
    """Of each model that was measured over a way."""
    by_name = {(each.name, each.model): each for each in results}
    for model in MODELS:
        slowest, together = (by_name.get((f"{OVER}{way}: {name}", model)) for name in (SLOWEST, TOGETHER))
        if slowest is not None and together is not None:
            bound = together.cpu_s / together.cores / slowest.seconds
            yield Overlap(model, together.seconds / slowest.seconds, bound)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
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
        for each in overlaps(results, way):
            took = f"{each.times:.2f} times the slowest of four tasks"
            print(
                f"{TOGETHER}, {each.model}: {took}; all its work on all cores: {each.bound:.2f}", flush=True
            )


if __name__ == "__main__":
    main()
