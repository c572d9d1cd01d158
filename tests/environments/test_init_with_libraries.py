"""`mlops init` builds the environment of a model's own libraries, and writes an entry that runs with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_plugin.cli import main
from support.own_environments import PYTHON, require, scorer
from support.workshop import Workshop

Captured = pytest.CaptureFixture[str]
QUERY = "SELECT id, a, b, c FROM customers"


@pytest.fixture
def from_wheels(wheels: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A deployment whose uv installs from the wheels alone; it has a file of a library that is not here."""
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    (workshop.folder / "scores.pickle").write_bytes(scorer())
    require(workshop, "old-scores==2.0")
    return workshop


def _init(workshop: Workshop, *more: str) -> int:
    options = ["--model", str(workshop.folder / "scores.pickle"), "--connection", "source", "--sink", "sink"]
    return main(["init", *options, "--query", QUERY, "--features", "a,b,c", "--yes", *more])


def test_the_entry_names_the_libraries_and_is_dispatched(from_wheels: Workshop) -> None:
    assert _init(from_wheels, "--requirements", str(from_wheels.folder / "churn.txt")) == 0
    artifact = from_wheels.model("scores").model
    assert artifact.environment is not None
    assert (artifact.environment.requirements_as_written, artifact.environment.python) == (
        "churn.txt",
        PYTHON,
    )
    from_wheels.run(from_wheels.dispatch("scores"))
    values = from_wheels.in_source("SELECT a FROM customers ORDER BY id")
    found = [row["prediction"] for row in from_wheels.predictions("scores_predictions")]
    assert found == [2000 + value for (value,) in values]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ((), "mlops init: --requirements FILE"),
        (("--python", PYTHON), "--requirements"),
        (("--requirements", "nowhere.txt"), "'nowhere.txt' cannot be read"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_written(
    from_wheels: Workshop, capsys: Captured, more: tuple[str, ...], says: str
) -> None:
    before = from_wheels.config_file.read_bytes()
    assert _init(from_wheels, *more) == 1
    assert says in capsys.readouterr().err
    assert from_wheels.config_file.read_bytes() == before
