"""results.json: what the benchmarks measured last, beside its peer; docs/performance.md is made of it."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.warehouse import Spent

RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Result:
    """Medians of `repeats` runs. `ratio`: how many times faster than `peer`, None without one."""

    name: str
    model: str | None
    rows: int
    seconds: float
    rows_per_s: int
    peak_mb: int
    peer: str | None
    ratio: float | None
    cpu_s: float  # of all processes and of the database's server
    cpu_ratio: float | None  # `ratio` by `cpu_s`: what other work on the machine disturbs less
    columns: int  # features
    repeats: int
    measured: str  # the day, ISO 8601
    cores: int


def result(
    name: str,
    spent: Sequence[Spent],
    *,
    rows: int,
    columns: int,
    model: str | None = None,
    peer: tuple[str, Sequence[Spent]] | None = None,
) -> Result:
    """A result of several runs; `peer` is the name and the runs of what they are compared with."""
    seconds = statistics.median(run.seconds for run in spent)
    cpu_s = statistics.median(run.cpu_s for run in spent)
    ratio = statistics.median(run.seconds for run in peer[1]) / seconds if peer else None
    cpu_ratio = statistics.median(run.cpu_s for run in peer[1]) / cpu_s if peer and cpu_s else None
    return Result(
        name=name,
        model=model,
        rows=rows,
        seconds=round(seconds, 3),
        rows_per_s=round(rows / seconds),
        peak_mb=round(max(run.peak_mb for run in spent)),
        peer=peer[0] if peer else None,
        ratio=None if ratio is None else round(ratio, 2),
        cpu_s=round(cpu_s, 3),
        cpu_ratio=None if cpu_ratio is None else round(cpu_ratio, 2),
        columns=columns,
        repeats=len(spent),
        measured=datetime.now(UTC).date().isoformat(),
        cores=os.cpu_count() or 1,
    )


def load(path: Path = RESULTS) -> list[Result]:
    """What was measured last, if anything was."""
    return [Result(**entry) for entry in json.loads(path.read_text())] if path.exists() else []


def store(results: Iterable[Result], path: Path = RESULTS) -> None:
    """Put results into the file, in place of earlier ones of the same name, model, rows and columns."""
    kept = {_identity(entry): entry for entry in load(path)}
    kept |= {_identity(entry): entry for entry in results}
    path.write_text(json.dumps([asdict(entry) for entry in kept.values()], indent=1) + "\n")


def replace(begin: str, results: Iterable[Result], path: Path = RESULTS) -> None:
    """Put results into the file, in place of all whose name begins so."""
    kept = [entry for entry in load(path) if not entry.name.startswith(begin)]
    path.write_text(json.dumps([asdict(entry) for entry in [*kept, *results]], indent=1) + "\n")


def show(results: Iterable[Result]) -> None:
    """Print a table."""
    print(
        f"{'':46} {'model':22} {'rows':>10} {'seconds':>8} {'rows/s':>9} {'CPU s':>7} {'MB':>5} "
        f"{'ratio':>6} {'by CPU':>6}"
    )
    for each in results:
        by_cpu = "" if each.cpu_ratio is None else f"{each.cpu_ratio:.2f}"
        ratio = "" if each.ratio is None else f"{each.ratio:6.2f} {by_cpu:>6} {each.peer}"
        print(
            f"{each.name:46} {each.model or '':22} {each.rows:10} {each.seconds:8.2f} {each.rows_per_s:9} "
            f"{each.cpu_s:7.2f} {each.peak_mb:5} {ratio}"
        )


def _identity(entry: Result) -> tuple[object, ...]:
    return entry.name, entry.model, entry.rows, entry.columns
