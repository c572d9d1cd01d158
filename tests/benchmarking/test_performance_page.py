"""docs/performance.md, its long tables and its plots say what benchmarks/report/results.json says."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.__main__ import PARTS
from benchmarks.report.headline import bars, numbers, overlap, ways
from benchmarks.report.performance_page import PAGE, PLOTS, TABLES_PAGE, render
from benchmarks.report.results import Result, load, replace, result, store
from benchmarks.warehouse import Spent
from benchmarks.ways_in import LINEAR

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_page_is_made_of_the_results_that_are_kept() -> None:
    made = render(load())
    assert {path.name for path in PLOTS.iterdir()} == {path.name for path in made if path.suffix == ".svg"}
    stale = [path.name for path, content in made.items() if path.read_text(encoding="utf-8") != content]
    assert stale == [], "run: PYTHONPATH=plugins:tests .venv/bin/python -m benchmarks.report.performance_page"


def test_every_result_stands_on_the_page() -> None:
    page = TABLES_PAGE.read_text(encoding="utf-8")
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


def test_each_plot_is_shown() -> None:
    shown = {
        path
        for page in (PAGE, TABLES_PAGE)
        for path in re.findall(r"[(/]performance/(\w+)\.svg\)", page.read_text(encoding="utf-8"))
    }
    assert shown == {path.stem for path in PLOTS.iterdir()}


def test_the_page_begins_with_ten_numbers_and_three_plots() -> None:
    before, _, _ = PAGE.read_text(encoding="utf-8").partition("\n## ")
    assert len(re.findall(r"^\| [^|]+ \| ", before, re.MULTILINE)) == 10 + 1
    assert len(re.findall(r"^!\[.*\.svg\)$", before, re.MULTILINE)) == 3


def test_ways_in_stand_beside_their_script() -> None:
    measured = [
        result(
            f"over mysql: {name}",
            [Spent(seconds, 1.0, 1.0)],
            rows=7_000,
            columns=2,
            model=LINEAR,
            peer=peer,
        )
        for name, seconds, peer in (
            ("script", 8.0, None),
            ("four tasks", 2.0, ("over mysql: script", [Spent(8.0, 1.0, 1.0)])),
            ("steps at the same time", 1.0, ("over mysql: script", [Spent(8.0, 1.0, 1.0)])),
        )
    ]
    assert ways(measured).splitlines()[2:] == [
        f"| mysql (MariaDB) | {LINEAR} | 7,000 | 8.0 s | 2.0 s (**4.0**) | 1.0 s (**8.0**) |"
    ]
    assert bars(measured) == [("mysql (MariaDB)", [("four tasks", 4.0), ("at the same time", 8.0)])]
    begin = f"| 7,000 rows over `mysql`, {LINEAR}, four tasks |"
    assert f"{begin} 2.0 s | the script, 8.0 s | 4.0 times as fast |" in numbers([*measured, *load()])


def test_the_overlap_stands_beside_what_the_cores_allow() -> None:
    slowest, together = (
        result(f"over mysql: {name}", [Spent(seconds, cpu_s, 1.0)], rows=7_000, columns=2, model=LINEAR)
        for name, seconds, cpu_s in (
            ("the slowest of four tasks", 2.0, 2.0),
            ("steps at the same time", 3.0, 4.0),
        )
    )
    shown = overlap([slowest, dataclasses.replace(together, cores=2)]).splitlines()
    assert shown[2:] == [f"| {LINEAR} | 1.50 | 1.00 | 1.15 |"]


def test_measuring_a_way_again_leaves_nothing_of_before(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    names = ("over mysql: script", "over mysql: four tasks", "over sqlite: script")
    store([result(name, [Spent(1.0, 1.0, 1.0)], rows=10, columns=1) for name in names], path)
    replace("over mysql: ", [result(names[0], [Spent(2.0, 1.0, 1.0)], rows=20, columns=1)], path)
    assert [(each.name, each.rows) for each in load(path)] == [(names[2], 10), (names[0], 20)]


def test_each_part_is_a_module_that_can_be_run() -> None:
    for place in PARTS.values():
        spec = find_spec(place)
        assert spec is not None
        assert spec.origin is not None
        assert "\ndef main(" in Path(spec.origin).read_text(), place


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
    assert "there is no part weather; parts are parsing, growing," in done.stderr
    assert "==" not in done.stdout
