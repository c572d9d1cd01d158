"""Tests are marked by what they start, without a list that somebody has to keep."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.kinds import NotFast
from support.servers import start_mariadb

TESTS = Path(__file__).resolve().parents[1]
FILES = (
    "airflow/test_two_doors.py",
    "config/test_config_excerpt.py",
    "events/test_marks.py",
    "pipeline/reading/test_cursor_property.py",
    "pipeline/test_dispatch_round_trip.py",
    "support/test_servers.py",
    "web/test_pages_in_browser.py",
)
# Collects these files as pytest does, and prints the marks of each test.
_LIST = """
import json, sys
import pytest

class Lister:
    def pytest_collection_finish(self, session):
        marks = {item.nodeid: sorted({mark.name for mark in item.iter_markers()}) for item in session.items}
        print("\\n" + json.dumps(marks))

sys.exit(pytest.main(["-q", "--collect-only", "-p", "no:cacheprovider", *sys.argv[1:]], [Lister()]))
"""


@pytest.fixture(scope="module")
def marks() -> dict[str, set[str]]:
    """The marks of each test in a few files, by the test's name."""
    command = [sys.executable, "-c", _LIST, *(str(TESTS / file) for file in FILES)]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = next(line for line in done.stdout.splitlines() if line.startswith("{"))
    return {name.removeprefix("tests/"): set(found) for name, found in json.loads(listed).items()}


def of(marks: dict[str, set[str]], file: str) -> dict[str, set[str]]:
    found = {name.partition("::")[2]: each for name, each in marks.items() if name.startswith(file)}
    assert found
    return found


def test_a_store_on_a_server_is_marked_and_one_on_sqlite_is_not(marks: dict[str, set[str]]) -> None:
    is_on_server = {name: "server" in found for name, found in of(marks, "events/test_marks.py").items()}
    assert is_on_server == {name: "sqlite" not in name for name in is_on_server}
    assert set(is_on_server.values()) == {True, False}


def test_what_starts_an_airflow_or_a_browser_is_marked(marks: dict[str, set[str]]) -> None:
    assert all(found >= {"airflow", "slow"} for found in of(marks, "airflow/").values())
    assert all(found >= {"airflow", "browser", "server"} for found in of(marks, "web/").values())


def test_a_server_that_a_parameter_starts_is_found(marks: dict[str, set[str]]) -> None:
    tests = of(marks, "support/test_servers.py")
    assert all("server" in found for found in tests.values())


def test_a_property_is_marked(marks: dict[str, set[str]]) -> None:
    tests = of(marks, "config/test_config_excerpt.py")
    assert "property" in tests["test_any_bytes_load_or_complain"]
    assert "property" not in tests["test_one_of_a_thousand_models_costs_a_fraction_of_the_file"]


@pytest.mark.parametrize(
    "file", ["pipeline/test_dispatch_round_trip.py", "pipeline/reading/test_cursor_property.py"]
)
def test_a_property_inside_of_a_test_is_marked(marks: dict[str, set[str]], file: str) -> None:
    assert "property" in set().union(*of(marks, file).values())


def test_no_server_starts_in_a_fast_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_TESTS_FAST", "1")
    with pytest.raises(NotFast, match="MariaDB"), start_mariadb():
        pass
