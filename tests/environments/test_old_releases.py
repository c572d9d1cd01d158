"""Files of old releases of scikit-learn run unconverted, and answer what those releases answer, bit for bit.

The environments are real and take minutes to build: `make test-long`.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlops_plugin.environments.building import build
from mlops_plugin.environments.location import FOLDER, Environment
from mlops_plugin.environments.requirements import Requirements
from mlops_plugin.errors import ArtifactError
from mlops_plugin.events.details.step_reports import InferReport
from mlops_plugin.formats.signature import signature_writer
from support import old_training
from support.workshop import Workshop

pytestmark = pytest.mark.long

# With each release the others of its time, but for pyarrow; the last one of a line is the Python.
RELEASES = {
    "1.2.2": ("numpy==1.23.5", "pandas==1.5.3", "scipy==1.10.1", "skops==0.9.0", "joblib==1.2.0", "3.10"),
    "1.4.2": ("numpy==1.26.4", "pandas==2.2.2", "scipy==1.13.1", "skops==0.10.0", "3.11"),
    "1.6.1": ("numpy==2.2.1", "pandas==2.2.3", "scipy==1.15.0", "skops==0.11.0", "3.12"),
}


@dataclass(frozen=True)
class Trained:
    """Models of one release: what each is, what it answers where it was trained, and where all of it lies."""

    release: str
    python: str
    folder: Path
    models: dict[str, Any]


@pytest.fixture(scope="module", params=RELEASES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    release = str(request.param)
    *others, python = RELEASES[release]
    folder = tmp_path_factory.mktemp("old")
    (folder / "rows.json").write_text(json.dumps(_rows()))
    (folder / "old.txt").write_text("\n".join([f"scikit-learn=={release}", *others, ""]))
    requirements = Requirements.read(str(folder / "old.txt"))
    environment = Environment("old", python, requirements, folder / "environments")
    with pytest.MonkeyPatch.context() as patch:
        (folder / "uv.toml").touch()
        patch.setenv("UV_CONFIG_FILE", str(folder / "uv.toml"))  # uv, whatever pip is told: it is quicker
        build(environment, print)
    script = [str(environment.python), "-I", old_training.__file__]
    subprocess.run([*script, str(folder), signature_writer.__file__], check=True)
    return Trained(release, python, folder, json.loads((folder / "answers.json").read_text()))


@pytest.fixture
def shop(workshop: Workshop, trained: Trained) -> Workshop:
    """A deployment that has the files, the rows and the environment."""
    for path in trained.folder.iterdir():
        if path.is_file():
            shutil.copy(path, workshop.folder)
    (workshop.home / FOLDER.parent).mkdir(parents=True, exist_ok=True)
    (workshop.home / FOLDER).symlink_to(trained.folder / "environments")
    with sqlite3.connect(workshop.folder / "source.db") as source:
        source.execute(
            "CREATE TABLE people "
            "(id INTEGER PRIMARY KEY, age REAL, income REAL, visits INTEGER, city TEXT, note TEXT)"
        )
        source.executemany(
            "INSERT INTO people (age, income, visits, city, note) "
            "VALUES (:age, :income, :visits, :city, :note)",
            _rows(),
        )
    source.close()
    return workshop


def _rows() -> list[dict[str, Any]]:
    draw = random.Random(5)
    cities = ("Oslo", "Rome", "Lima", None)
    words = ("late", "paid", "called", "refund", "happy")
    return [
        {
            "age": draw.uniform(18, 80),
            "income": None if draw.random() < 0.1 else draw.uniform(1e3, 1e5),
            "visits": draw.randrange(40),
            "city": draw.choice(cities),
            "note": " ".join(draw.choices(words, k=3)),
        }
        for _ in range(400)
    ]


def _add(shop: Workshop, trained: Trained, name: str, file_format: str, *, is_own: bool = True) -> None:
    described = trained.models[name]
    artifact: dict[str, Any] = {"format": file_format, "uri": f"{name}.{file_format}"}
    if file_format == "joblib":
        artifact["sha256"] = described["sha256"]
    elif described["trusted"]:
        artifact["trusted"] = described["trusted"]
    if is_own:
        artifact["environment"] = {"requirements": "old.txt", "python": trained.python}
    shop.add_model(
        name,
        model=artifact,
        features=described["features"] if name in ("forest", "texts") else None,
        source={"query": "SELECT * FROM people ORDER BY id", "batch_rows": 64},
    )


@pytest.mark.parametrize("name", old_training.NAMES)
@pytest.mark.parametrize("file_format", ["joblib", "skops"])
def test_a_file_of_an_old_release_answers_as_it_does(
    shop: Workshop, trained: Trained, name: str, file_format: str
) -> None:
    _add(shop, trained, name, file_format)
    dispatch = shop.dispatch(name)
    shop.run(dispatch)
    stored = shop.predictions(f"{name}_predictions")
    answers = trained.models[name]["answers"]
    assert {column: [row[column] for row in stored] for column in answers} == answers
    details = [event.details for event in shop.events(dispatch.id)]
    (report,) = [report for report in details if isinstance(report, InferReport)]
    assert report.libraries["scikit-learn"] == trained.release
    assert report.libraries["Python"].startswith(f"{trained.python}.")


def test_without_it_the_error_names_the_entry_to_write(shop: Workshop, trained: Trained) -> None:
    _add(shop, trained, "linear", "joblib", is_own=False)
    with pytest.raises(ArtifactError) as raised:
        shop.run(shop.dispatch("linear"))
    said = str(raised.value)
    assert f"scikit-learn=={trained.release}" in said
    assert "environment: {requirements:" in said
    assert "mlops environments sync" in said
