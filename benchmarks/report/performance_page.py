"""Writes docs/performance.md, its long tables and its plots from texts beside this and results.json.

python -m benchmarks.report.performance_page
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.contract import IN_ONE_PROCESS
from benchmarks.growing import BY_PARTITIONS, BY_SIZE, IN_PAGES
from benchmarks.report import headline
from benchmarks.report.plots import Points, bar_plot, line_plot
from benchmarks.report.results import Result, load
from benchmarks.ways_in import OVER

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "performance.md"
TABLES_PAGE = DOCS / "development" / "performance.md"
PLOTS = DOCS / "performance"
TEXTS = {PAGE: "performance.txt", TABLES_PAGE: "tables.txt"}
_MEMORY_AIM_MB = 350
_PARSED = "parsing "
_FORMAT = "format "
_PARTITIONS_SHOWN = "\n\n![Seconds of a dispatch by partitions](../performance/partitions.svg)"

Value = Callable[[Result], float]


def render(results: Sequence[Result]) -> dict[Path, str]:
    """The pages and their plots, each by its path."""
    sized = [each for each in results if each.name.startswith(BY_SIZE)]
    table_rows = max((each.columns for each in sized if each.rows > 1_000_000), default=20)
    by_rows = sorted((each for each in sized if each.columns == table_rows), key=lambda each: each.rows)
    by_columns = sorted((each for each in sized if each.rows == 100_000), key=lambda each: each.columns)
    parsed = [each for each in results if each.name.startswith(_PARSED)]
    divided = sorted((each for each in results if each.name.startswith(BY_PARTITIONS)), key=_partitions)
    parts = {
        "measured": _measured(results),
        "numbers": headline.numbers(results),
        "ways": headline.ways(results),
        "overlap": headline.overlap(results),
        "ways_in": _table(each for each in results if each.name.startswith(OVER)),
        "memory": _memory(results),
        "orchestration": _table(each for each in results if " in Airflow" in each.name),
        "rows": _table(by_rows),
        "columns": _table(by_columns, by_columns=True),
        "partitions": _table(divided) + (_PARTITIONS_SHOWN if divided else ""),
        "checks": _table(each for each in results if each.name.startswith(IN_ONE_PROCESS)),
        "formats": _table(each for each in results if each.name.startswith(_FORMAT)),
        "parsing": _table(each for each in results if " models, " in each.name),
    }
    pages = {path: Path(__file__).with_name(name).read_text(encoding="utf-8") for path, name in TEXTS.items()}
    for name, content in parts.items():
        pages = {path: text.replace(f"{{{{{name}}}}}", content) for path, text in pages.items()}
    plots = {
        "ways": bar_plot(headline.WAYS_PLOT, headline.bars(results)),
        "rows": _plot("CPU seconds by rows", "rows", by_rows, lambda each: each.rows),
        "columns": _plot("CPU seconds by feature columns", "columns", by_columns, lambda each: each.columns),
        "memory": _plot(
            "Peak memory by rows", "rows", by_rows, lambda each: each.rows, "MB", lambda each: each.peak_mb
        ),
        "parsing": _plot("CPU seconds to parse models", "models", parsed, lambda each: each.rows),
        **({"partitions": _partitions_plot(divided)} if divided else {}),
    }
    return {**pages, **{PLOTS / f"{name}.svg": svg for name, svg in plots.items()}}


def _measured(results: Sequence[Result]) -> str:
    days = sorted({each.measured for each in results})
    cores = sorted({each.cores for each in results})
    return f"{' to '.join(dict.fromkeys((days[0], days[-1])))} on {' or '.join(map(str, cores))} cores"


def _memory(results: Sequence[Result]) -> str:
    """What was aimed for beside what was measured."""
    lines = ["| aim | measured |", "| --- | ---: |"]
    for each in results:
        if each.name in (BY_SIZE, IN_PAGES) and each.columns == 20 and each.rows >= 1_000_000:
            what = f"{each.name}, {each.rows:,} rows: at most {_MEMORY_AIM_MB} MB in each step"
            lines.append(f"| {what} | {each.peak_mb} MB |")
    return "\n".join(lines)


def _table(results: Iterable[Result], *, by_columns: bool = False) -> str:
    head = (
        "",
        "columns" if by_columns else "rows",
        "seconds",
        "rows/s",
        "CPU s",
        "peak MB",
        "ratio",
        "by CPU",
    )
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for each in results:
        name = f"{each.name}, {each.model}" if each.model else each.name
        size = each.columns if by_columns else each.rows
        figures = [
            f"{size:,}",
            f"{each.seconds:.2f}",
            f"{each.rows_per_s:,}",
            f"{each.cpu_s:.2f}",
            f"{each.peak_mb:,}",
        ]
        ratios = ["" if ratio is None else f"{ratio:.2f}" for ratio in (each.ratio, each.cpu_ratio)]
        lines.append(f"| {' | '.join([name, *figures, *ratios])} |")
    return "\n".join(lines)


def _plot(
    title: str,
    x_name: str,
    results: Sequence[Result],
    x: Value,
    y_name: str = "CPU s",
    y: Value = lambda each: each.cpu_s,
) -> str:
    series: dict[str, Points] = {}
    for name in dict.fromkeys(_series(each) for each in results):
        points = sorted((x(each), y(each)) for each in results if _series(each) == name)
        series[name] = [point for point in points if min(point) > 0]
    return line_plot(title, x_name, y_name, [each for each in series.items() if each[1]])


def _partitions_plot(results: Sequence[Result]) -> str:
    seconds = [(_partitions(each), each.seconds) for each in results]
    cpu_s = [(_partitions(each), each.cpu_s) for each in results]
    title = "Seconds of a dispatch by partitions"
    return line_plot(title, "partitions", "s", [("clock", seconds), ("processor", cpu_s)])


def _partitions(each: Result) -> float:
    return float(each.name.rpartition(": ")[2])


def _series(each: Result) -> str:
    """The step of a dispatch, or the way of parsing."""
    if each.name.startswith(_PARSED):
        return each.name.rpartition(", ")[2]
    return each.name.removeprefix(BY_SIZE).lstrip(":, ") or "all steps"


def main() -> None:
    """Write the pages."""
    PLOTS.mkdir(exist_ok=True)
    for path, content in render(load()).items():
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
