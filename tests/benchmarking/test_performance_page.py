"""docs/performance.md and its plots say what benchmarks/report/results.json says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report.performance_page import PAGE, PLOTS, render
from benchmarks.report.results import Result, load, result, store
from benchmarks.warehouse import Spent

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_page_is_made_of_the_results_that_are_kept() -> None:
    made = render(load())
    assert {path.name for path in PLOTS.iterdir()} == {path.name for path in made} - {PAGE.name}
    stale = [path.name for path, content in made.items() if path.read_text(encoding="utf-8") != content]
    assert stale == [], "run: PYTHONPATH=plugins:tests .venv/bin/python -m benchmarks.report.performance_page"


def test_every_result_stands_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    missing = [each.name for each in load() if f"| {each.name}" not in page]
    assert missing == []


def test_a_result_replaces_the_earlier_one_of_the_same_size(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    store([_measured(4.0), _measured(9.0, rows=20)], path)
    store([_measured(2.0)], path)
    assert [(each.rows, each.seconds) for each in load(path)] == [(10, 2.0), (20, 9.0)]


def test_a_ratio_says_how_many_times_faster_than_the_peer() -> None:
    peer = ("slow", [Spent(8.0, 6.0, 1.0), Spent(8.0, 6.0, 1.0)])
    found = result("fast", [Spent(2.0, 3.0, 100.0), Spent(2.0, 3.0, 90.0)], rows=10, columns=2, peer=peer)
    assert (found.ratio, found.cpu_ratio, found.peak_mb, found.rows_per_s) == (4.0, 2.0, 100, 5)


def _measured(seconds: float, *, rows: int = 10) -> Result:
    return result("dispatch", [Spent(seconds, 1.0, 1.0)], rows=rows, columns=1)


@pytest.mark.parametrize("name", ["rows", "columns", "memory", "parsing"])
def test_each_plot_is_shown(name: str) -> None:
    assert f"(performance/{name}.svg)" in PAGE.read_text(encoding="utf-8")


def test_a_part_that_does_not_exist_is_refused_before_anything_runs() -> None:
    command = [sys.executable, "-m", "benchmarks", "parsing", "weather", "--quick"]
    folders = [str(REPOSITORY / name) for name in ("", "plugins", "tests")]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "there is no part weather; parts are parsing, data_plane," in done.stderr
    assert "==" not in done.stdout
