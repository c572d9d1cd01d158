"""A step loads what it needs, over every way in: only `infer` scikit-learn, only `collect` the SQL parser.

A model that reads a matrix, or has a signature that says so, needs no pandas; a linear model no scipy.stats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from mlops_plugin.events.records import Step
from mlops_plugin.pipeline.dispatch import STEPS, Dispatch
from support.preloaded_python import PreloadedPython, preloaded_python
from support.ways_in import WAYS_IN, way_in
from support.workshop import FEATURES, Workshop

LoadedBy = Callable[[str, Dispatch, Workshop], set[str]]
_OF_ALL_STEPS = (
    "airflow.sdk",
    "mlops_plugin.config.loader",
    "mlops_plugin.pipeline.deployment",
    "mlops_plugin.pipeline.runner",
)
# What costs a task a tenth of a second or more, and which of it a step may load.
HEAVY = (
    "pandas",
    "polars",
    "pyarrow.dataset",
    "scipy.stats",
    "sklearn",
    "skops",
    "sqlglot",
)
ALLOWED: dict[Step, set[str]] = {
    "collect": {"sqlglot"},
    "log": set(),
    "infer": {"sklearn", "skops"},
    "persist": set(),
}
_STEP = """
import os, sys
from pathlib import Path
from mlops_plugin.config.loader import load_config
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.runner import run_step

loaded = load_config(Path(os.environ["AIRFLOW__MLOPS__CONFIG_FILE"]))
model = loaded.model("churn")
dispatch = Dispatch(id=sys.argv[2], model=model, origin="terminal")
deployment = Deployment.of_airflow(loaded.config.events, loaded.config.staging)
run_step(sys.argv[1], dispatch, deployment, query=lambda: model.source.query)
print(*sorted(set(sys.argv[3:]) & set(sys.modules)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", [*WAYS_IN, "duckdb"])
def test_steps_that_move_rows_load_no_pandas(
    name: str, workshop: Workshop, loaded_by: LoadedBy, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    way.let_go()
    way.execute(
        "CREATE TABLE customers (id INT PRIMARY KEY, a DOUBLE PRECISION, b DOUBLE PRECISION, "
        "c DOUBLE PRECISION)",
        "INSERT INTO customers VALUES (1, 0.5, 0.25, -1), (2, 0.125, 2, 1)",
    )
    workshop.connections |= dict.fromkeys(("source", "sink"), way.airflow_connection)
    dispatch = workshop.dispatch()
    loaded = {"collect": loaded_by("collect", dispatch, workshop)}
    with workshop.entered():
        workshop.run_steps(dispatch, "log", "infer")
    loaded["persist"] = loaded_by("persist", dispatch, workshop)
    assert loaded == {step: ALLOWED[step] for step in ("collect", "persist")}
    assert way.rows("SELECT id FROM churn_predictions ORDER BY id") == [(1,), (2,)]


@pytest.mark.slow
def test_each_step_of_a_linear_model_loads_what_it_needs(workshop: Workshop, loaded_by: LoadedBy) -> None:
    train_on_matrix(workshop)
    dispatch = workshop.dispatch()
    assert {step: loaded_by(step, dispatch, workshop) for step in STEPS} == ALLOWED
    assert len(workshop.predictions()) == 5


@pytest.mark.slow
def test_a_model_that_reads_a_data_frame_gets_one(workshop: Workshop, loaded_by: LoadedBy) -> None:
    """So that the list above can fail: what is not needed there is loaded where it is."""
    workshop.add_model("churn", model={"format": "skops", "uri": "churn.skops", "container": "frame"})
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log")
    assert loaded_by("infer", dispatch, workshop) >= {"pandas", "sklearn"}


def train_on_matrix(workshop: Workshop) -> None:
    rows = [[0.0, 0.5, -1.0], [1.0, 2.0, 0.25], [-1.0, 0.75, 1.0], [2.0, -0.5, 0.5]]
    skops.io.dump(LogisticRegression().fit(rows, [0, 1, 0, 1]), workshop.folder / "matrix.skops")
    workshop.add_model("churn", model={"format": "skops", "uri": "matrix.skops"}, features=list(FEATURES))


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreloadedPython]:
    """A Python that has loaded what all steps need; what that loads counts as loaded by each step."""
    with preloaded_python(tmp_path_factory.mktemp("light"), _OF_ALL_STEPS) as python:
        yield python


@pytest.fixture
def loaded_by(light: PreloadedPython) -> LoadedBy:
    """The heavy modules that a process has loaded when it has run a step."""

    def run(step: str, dispatch: Dispatch, workshop: Workshop) -> set[str]:
        words = (step, dispatch.id, *HEAVY)
        done = light.run(_STEP, *words, cwd=workshop.folder, env=workshop.environment)
        assert done.returncode == 0, done.stderr
        return set(done.stdout.splitlines()[-1].split())

    return run
