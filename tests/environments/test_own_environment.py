"""A model with libraries of its own runs in their Python, and in no other, whichever door it is asked by."""

from __future__ import annotations

import json
import logging
import os
import pickle
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from inference_server.conftest import Callers, infer, outputs, serving, tensor
from mlops_plugin.cli import main
from mlops_plugin.config.schema import ServingConfig
from mlops_plugin.environments.building import START_WORKER
from mlops_plugin.errors import ArtifactError, EnvironmentUnusable, GoldenRowMismatch, StagingOutdated
from mlops_plugin.events.details.step_reports import InferReport
from mlops_plugin.pipeline.inspection import Finding, inspect_model
from mlops_plugin.workers.pool import ModelPool
from support import prying_models
from support.own_environments import (
    add_model,
    environment_of,
    require,
    sync,
)
from support.prying_models import ATTEMPTS, Prying
from support.small_wheels import write_wheel
from support.workshop import Workshop

ROW = pa.RecordBatch.from_pylist([{"a": 0.5, "b": 0.0, "c": 0.0}])
ALLOWED = ("numpy", "pyarrow", "mlops_plugin", "__main__")


@pytest.fixture
def pool() -> Iterator[ModelPool]:
    pool = ModelPool(ServingConfig())
    yield pool
    pool.close()


def _scores(workshop: Workshop) -> list[float]:
    return [row["prediction"] for row in workshop.predictions()]


def _expected(workshop: Workshop, release: int) -> list[float]:
    values = workshop.in_source("SELECT a FROM customers ORDER BY id")
    return [1000 * release + value for (value,) in values]


def _inspected(workshop: Workshop) -> dict[str, Finding]:
    found = inspect_model(workshop.model(), workshop.deployment, lambda model: model.source.query)
    return {finding.subject: finding for finding in found}


def test_a_dispatch_runs_the_model_in_its_own_python_and_records_its_versions(
    own: Workshop, wheels: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert sync(own, wheels) == 0
    dispatch = own.dispatch()
    with caplog.at_level(logging.INFO, "mlops_plugin.workers.isolation"):
        own.run(dispatch)
    assert _scores(own) == _expected(own, 1)
    assert f"runs in {environment_of(own).path}" in caplog.text
    (report,) = [event.details for event in own.events(dispatch.id) if isinstance(event.details, InferReport)]
    assert report.libraries["old_scores"] == "1.0"
    assert report.libraries["numpy"] == "99.0"  # as the environment says, not as this process has it
    assert report.libraries["Python"] == sys.version.split()[0]


def test_a_program_is_answered_by_the_model_in_its_own_python(own: Workshop, wheels: Path) -> None:
    assert sync(own, wheels) == 0
    rows = [tensor(name, "FP64", [0.5, 2.0]) for name in "abc"]
    with serving(own.config_file, Callers()) as client:
        answer = infer(client, "churn", *rows)
        assert outputs(answer)["prediction"] == [1000.5, 1002.0]
        dispatch_id = answer.json()["parameters"]["dispatch_id"]
    (report,) = [event.details for event in own.events(dispatch_id) if isinstance(event.details, InferReport)]
    assert report.libraries["old_scores"] == "1.0"
    assert report.libraries["numpy"] == "99.0"


def test_a_model_without_an_environment_records_the_versions_that_are_installed(workshop: Workshop) -> None:
    import sklearn

    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    reports = [event.details for event in workshop.events(dispatch.id)]
    (report,) = [report for report in reports if isinstance(report, InferReport)]
    assert report.libraries["scikit-learn"] == sklearn.__version__


def test_an_environment_that_was_not_built_fails_infer_with_the_command(own: Workshop) -> None:
    with pytest.raises(EnvironmentUnusable, match="mlops environments sync churn"):
        own.run(own.dispatch())
    assert not environment_of(own).folder.exists()  # nothing is installed in a task
    problem = _inspected(own)["models.churn.model"].problem
    assert problem is not None
    assert "mlops environments sync churn" in problem


def test_other_requirements_need_another_environment(own: Workshop, wheels: Path) -> None:
    assert sync(own, wheels) == 0
    before = environment_of(own)
    require(own, "old-scores==2.0")
    with pytest.raises(EnvironmentUnusable):
        own.run(own.dispatch())
    assert sync(own, wheels) == 0
    own.run(own.dispatch())
    assert _scores(own) == _expected(own, 2)
    assert not before.path.exists()  # no model uses it


def test_a_library_that_the_file_lacks_is_named_with_the_file(own: Workshop, wheels: Path) -> None:
    require(own, "numpy==99.0")
    assert sync(own, wheels) == 0
    with pytest.raises(ArtifactError) as raised:
        own.run(own.dispatch())
    assert "'old_scores'" in str(raised.value)
    assert f"'{own.folder / 'churn.txt'}' and run: mlops environments sync" in str(raised.value)


def test_requirements_that_change_after_the_rows_were_logged_end_the_dispatch(
    own: Workshop, wheels: Path
) -> None:
    dispatch = own.dispatch()
    own.run_steps(dispatch, "collect", "log")
    require(own, "old-scores==2.0")
    assert sync(own, wheels) == 0
    with pytest.raises(StagingOutdated):
        own.run_steps(dispatch, "infer")


def test_a_model_is_signed_with_its_own_libraries_and_held_to_that(own: Workshop, wheels: Path) -> None:
    assert sync(own, wheels) == 0
    rows = own.folder / "rows.csv"
    rows.write_text("a,b,c\n0.5,1,2\n1.5,0,1\n")
    for arguments, expected in ((["--rows", str(rows)], [1000.5, 1001.5]), ([], _expected(own, 1))):
        assert main(["--config", str(own.config_file), "sign", "churn", *arguments]) == 0
        signature = json.loads((own.folder / "churn.pickle.signature.json").read_text())
        assert sorted(signature["golden"]["answers"]["predict"]) == sorted([answer] for answer in expected)
        own.run(own.dispatch())
    require(own, "old-scores==2.0")
    assert sync(own, wheels) == 0
    with pytest.raises(GoldenRowMismatch):
        own.run(own.dispatch())


def test_the_showroom_changes_with_the_environment_and_keeps_the_one_that_it_uses(
    own: Workshop, wheels: Path, pool: ModelPool
) -> None:
    assert sync(own, wheels) == 0
    before = environment_of(own)
    with pool.runtime(own.model()) as process:
        assert process.predict(ROW).column("prediction").to_pylist() == [1000.5]
    require(own, "old-scores==2.0")
    assert sync(own, wheels) == 0
    assert before.is_built  # its process waits for the next request
    with pool.runtime(own.model()) as process:
        assert process.predict(ROW).column("prediction").to_pylist() == [2000.5]
    assert sync(own, wheels) == 0
    assert not before.path.exists()


def test_check_says_with_what_the_model_runs(own: Workshop, wheels: Path) -> None:
    assert sync(own, wheels) == 0
    findings = _inspected(own)
    assert [finding.problem for finding in findings.values() if finding.problem] == []
    found = findings["models.churn.model.environment"]
    assert "old_scores 1.0" in found.tried
    assert found.note is not None  # no hashes


def test_a_model_in_its_own_environment_is_refused_each_attempt(
    workshop: Workshop, tmp_path: Path, wheels: Path
) -> None:
    text = Path(prying_models.__file__).read_text(encoding="utf-8")
    write_wheel(wheels, "prying", "1.0", {"support/prying_models.py": text})
    target = tmp_path / "elsewhere" / "secret.txt"
    target.parent.mkdir()
    target.write_text("secret")
    with sqlite3.connect(workshop.folder / "source.db") as source:
        source.execute("DELETE FROM customers")
        source.executemany("INSERT INTO customers VALUES (?, ?, 0, 0)", enumerate(range(len(ATTEMPTS)), 1))
    source.close()
    with socket.create_server(("127.0.0.1", 0)) as server:
        add_model(workshop, pickle.dumps(Prying(target, os.getpid(), server.getsockname()[1])), "prying==1.0")
        assert sync(workshop, wheels) == 0
        workshop.run(workshop.dispatch())
    answers = zip(ATTEMPTS, _scores(workshop), strict=True)
    assert {name for name, answer in answers if answer != 0} == set()
    assert target.read_text() == "secret"


def test_the_worker_needs_numpy_and_pyarrow_and_nothing_else() -> None:
    blocked = f"""
import importlib.abc, runpy, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        is_of_python = top in sys.stdlib_module_names or top.startswith("_")
        if not is_of_python and top not in {ALLOWED!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocked())
sys.argv[1:] = ["describe"]
runpy.run_path({str(START_WORKER)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"numpy"' in done.stdout


def test_check_without_connections_reads_the_requirements(
    own: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(own.config_file), "check"]) == 0
    (own.folder / "churn.txt").unlink()
    assert main(["--config", str(own.config_file), "check"]) == 1
    line = own.config_file.read_text().split("requirements:")[0].count("\n") + 1
    assert f"config.yaml:{line}: models.churn.model.environment.requirements" in capsys.readouterr().out
