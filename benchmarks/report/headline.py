"""What docs/performance.md begins with: ten numbers, each beside its peer, and the ways in side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.growing import IN_PAGES
from benchmarks.orchestration import EMPTY, PRELOADED, SMALL
from benchmarks.report.results import Result
from benchmarks.ways_in import (
    KNOWN_ALONE,
    LINEAR,
    OVER,
    PERSIST_KNOWN,
    SCRIPT,
    SCRIPT_COLD,
    TASKS,
    TASKS_COLD,
    TOGETHER,
    TREES,
    UPSERT_KNOWN,
    UPSERT_NEW,
    WAYS,
    overlaps,
)

WAYS_PLOT = "Times faster than the script, by way in"
_MEMORY_AIM_MB = 350
_OVERLAP_AIM = 1.15
_MOST_SHOWN = 10
# Name of the number, way in, what ran, model, aim in times faster than the script.
_BESIDE_THE_SCRIPT = (
    ("{rows} rows over `mysql`, LogisticRegression, four tasks", "mysql", TASKS, LINEAR, 12),
    ("the same, steps at the same time", "mysql", TOGETHER, LINEAR, 15),
    ("HistGradientBoosting, four tasks", "mysql", TASKS, TREES, 6),
    ("HistGradientBoosting, steps at the same time", "mysql", TOGETHER, TREES, 8),
    ("LogisticRegression, four tasks started cold", "mysql", TASKS_COLD, LINEAR, None),
)


def numbers(results: Sequence[Result]) -> str:
    """The table of ten numbers; what was not measured says so."""
    lines = ["| | here | beside it | ratio | aim |", "| --- | ---: | ---: | ---: | ---: |"]
    for what, here, beside, ratio, aim in (*_beside_the_script(results), *_others(results)):
        lines.append(f"| {what} | {here} | {beside} | {ratio} | {aim} |")
    assert len(lines) == _MOST_SHOWN + 2
    return "\n".join(lines)


def ways(results: Sequence[Result]) -> str:
    """A line for each way in and model: the script's seconds, and those of a dispatch with their ratio."""
    lines = [
        "| connection | model | rows | script | four tasks | at the same time |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for way, model in _measured_ways(results):
        script, *dispatched = (_find(results, way, name, model) for name in (SCRIPT, TASKS, TOGETHER))
        if script is None:
            continue
        shown = [
            "" if each is None else f"{each.seconds:.1f} s (**{each.ratio:.1f}**)" for each in dispatched
        ]
        cells = [_shown(way), model, f"{script.rows:,}", f"{script.seconds:.1f} s", *shown]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def overlap(results: Sequence[Result]) -> str:
    """How long steps at the same time take, beside the slowest of four tasks and what the cores allow."""
    lines = [
        f"| steps at the same time over `mysql`, in times of the slowest task | measured | the bound of "
        f"{_cores(results)} cores | aim |",
        "| --- | ---: | ---: | ---: |",
    ]
    found = overlaps(results, "mysql")
    shown = [f"| {each.model} | {each.times:.2f} | {each.bound:.2f} | {_OVERLAP_AIM} |" for each in found]
    return "\n".join([*lines, *shown])


def _cores(results: Sequence[Result]) -> int:
    return max(each.cores for each in results)


def bars(results: Sequence[Result]) -> list[tuple[str, list[tuple[str, float]]]]:
    """How many times faster than the script, for each way in and model."""
    found = []
    for way, model in _measured_ways(results):
        name = _shown(way) if model == LINEAR else f"{way}, {model}"
        measured = (
            (label, _find(results, way, what, model))
            for label, what in (("four tasks", TASKS), ("at the same time", TOGETHER))
        )
        group = [
            (label, each.ratio) for label, each in measured if each is not None and each.ratio is not None
        ]
        found.append((name, group))
    return found


def _measured_ways(results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    for way in WAYS:
        for model in (LINEAR, TREES):
            if _find(results, way, TASKS, model) is not None:
                yield way, model


def _shown(way: str) -> str:
    return {
        "odbc-mariadb": "odbc (MariaDB)",
        "odbc-postgres": "odbc (PostgreSQL)",
        "mysql": "mysql (MariaDB)",
    }.get(way, way)


def _find(results: Sequence[Result], way: str, name: str, model: str) -> Result | None:
    wanted = f"{OVER}{way}: {name}"
    return next((each for each in results if each.name == wanted and each.model == model), None)


def _beside_the_script(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    for what, way, name, model, aim in _BESIDE_THE_SCRIPT:
        here = _find(results, way, name, model)
        script = _find(results, way, SCRIPT_COLD if name == TASKS_COLD else SCRIPT, model)
        wanted = "" if aim is None else f"{aim} times"
        if here is None or script is None:
            yield what.format(rows="a million"), "not measured", "", "", wanted
            continue
        beside = f"the script, {script.seconds:.1f} s"
        named = what.format(rows=f"{here.rows:,}")
        yield named, f"{here.seconds:.1f} s", beside, f"{here.ratio:.1f} times as fast", wanted


def _beside(what: str, here: Result | None, peer: str, beside: Result | None, aim: str) -> tuple[str, ...]:
    """How many times as long something takes as its peer."""
    if here is None or beside is None:
        return what, "not measured", "", "", aim
    ratio = f"{here.seconds / beside.seconds:.2f} times"
    return what, f"{here.seconds:.1f} s", f"{peer}, {beside.seconds:.1f} s", ratio, aim


def _others(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    append, new, known, persist, alone = (
        _find(results, "mysql", name, LINEAR)
        for name in (TASKS, UPSERT_NEW, UPSERT_KNOWN, PERSIST_KNOWN, KNOWN_ALONE)
    )
    yield _beside("`upsert` over `mysql`, no key there", new, "`append`", append, "1.3 times")
    yield _beside("the same, all keys there", known, "`append`", append, "1.3 times")
    what = "`persist` alone, all keys there"
    yield _beside(what, persist, "the server's own `INSERT ... ON DUPLICATE KEY UPDATE`", alone, "1.1 times")
    by_name = {each.name: each for each in results}
    small, empty = by_name[SMALL + PRELOADED], by_name[EMPTY + PRELOADED]
    ratio = f"{small.seconds / empty.seconds:.2f} times"
    yield (
        "300 rows in Airflow, libraries loaded",
        f"{small.seconds:.1f} s",
        f"four empty tasks, {empty.seconds:.1f} s",
        ratio,
        "1.05 times",
    )
    largest = max((each for each in results if each.name == IN_PAGES), key=lambda each: each.rows)
    what = f"memory of a task, {largest.rows:,} rows read in pages"
    yield what, f"{largest.peak_mb} MB", "", "", f"{_MEMORY_AIM_MB} MB"
