"""A pickled model of a dispatch runs in a process that has nothing of the task's, and answers the same."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from mlops_plugin.errors import ArtifactError, FeatureError, MlopsError, ServingError
from mlops_plugin.pipeline.inspection import inspect_model
from mlops_plugin.pipeline.staging.notes import pinned_settings
from mlops_plugin.workers.last_words import MOST_TOLD_BYTES
from support import isolated_models as models
from support.fork_servers import started_fork_server
from support.process_tree import is_alive, model_processes
from support.prying_models import ATTEMPTS, Prying
from support.workshop import FEATURES, Workshop

pytestmark = pytest.mark.slow  # such a model has a process of its own


def _add(workshop: Workshop, model: object, isolation: str | None = None, **changes: Any) -> None:
    """The pickled model as `churn`; without `isolation` as the format has it."""
    content = pickle.dumps(model)
    (workshop.folder / "churn.pickle").write_bytes(content)
    artifact: dict[str, Any] = {
        "format": "pickle",
        "uri": "churn.pickle",
        "sha256": sha256(content).hexdigest(),
    }
    if isolation is not None:
        artifact["isolation"] = isolation
    workshop.add_model("churn", model=artifact, features=list(FEATURES), **changes)


def _answers(workshop: Workshop) -> list[Any]:
    return [row["prediction"] for row in workshop.predictions()]


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(params=["new Python", "forked"])
def parent(request: pytest.FixtureRequest) -> Iterator[int | None]:
    """The fork server whose child a model's process is, if any."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(started_fork_server()) if request.param == "forked" else None


def test_the_model_of_a_dispatch_is_refused_each_attempt(
    workshop: Workshop, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch, parent: int | None
) -> None:
    monkeypatch.setenv("MY_SECRET", "1")
    target = tmp_path / "elsewhere" / "secret.txt"
    target.parent.mkdir()
    target.write_text("secret")
    with sqlite3.connect(workshop.folder / "source.db") as source:
        source.execute("DELETE FROM customers")
        source.executemany("INSERT INTO customers VALUES (?, ?, 0, 0)", enumerate(range(len(ATTEMPTS)), 1))
    source.close()
    _add(workshop, Prying(target, parent or os.getpid(), port))
    workshop.run(workshop.dispatch())
    assert {name for name, answer in zip(ATTEMPTS, _answers(workshop), strict=True) if answer != 0} == set()
    assert target.read_text() == "secret"


@pytest.mark.parametrize(("isolation", "is_here"), [(None, False), ("process", False), ("none", True)])
def test_isolation_says_where_a_pickled_model_runs_and_is_loaded(
    workshop: Workshop, isolation: str | None, is_here: bool
) -> None:
    models.LOADED_IN_THIS_PROCESS.clear()
    _add(workshop, models.Placed(), isolation)
    findings = {finding.subject: finding for finding in _inspected(workshop)}
    workshop.run(workshop.dispatch())
    assert (set(_answers(workshop)) == {os.getpid()}) is is_here
    assert bool(models.LOADED_IN_THIS_PROCESS) is is_here
    found = findings["models.churn.model.isolation"]
    assert found.problem is None
    assert (found.note is not None) is is_here  # code with the task's keys is worth a line
    assert [finding.problem for finding in findings.values() if finding.problem] == []


def _inspected(workshop: Workshop) -> list[Any]:
    return [*inspect_model(workshop.model(), workshop.deployment, lambda model: model.source.query)]


def test_a_skops_model_runs_in_the_task_unless_it_is_isolated(workshop: Workshop) -> None:
    assert not workshop.model().model.is_isolated
    workshop.add_model("churn", model={"format": "skops", "uri": "churn.skops", "isolation": "process"})
    assert workshop.model().model.is_isolated
    workshop.run(workshop.dispatch())
    assert len(_answers(workshop)) == 5


@pytest.mark.parametrize(
    "kind",
    [
        LogisticRegression,
        HistGradientBoostingClassifier,
        pytest.param(RandomForestClassifier, marks=pytest.mark.long),
    ],
)
def test_predictions_are_the_same_bit_for_bit(workshop: Workshop, kind: Any) -> None:
    workshop.add_rows(20_000)
    rows = np.random.default_rng(3).normal(size=(500, 3))
    model = kind().fit(rows, np.where(rows.sum(axis=1) > 0, "stays", "leaves"))
    tables = []
    for isolation in ("process", "none"):
        _add(workshop, model, isolation, sink={"mode": "replace"}, source={"batch_rows": 5000})
        workshop.run(workshop.dispatch())
        tables.append(
            [
                {name: value for name, value in row.items() if name not in ("dispatch_id", "predicted_at")}
                for row in workshop.predictions()
            ]
        )
    assert len(tables[0]) == 20_005
    assert tables[0] == tables[1]


def test_a_model_of_many_columns_learns_from_its_first_rows(workshop: Workshop) -> None:
    workshop.add_rows(100)
    names = [f"f{number}" for number in range(600)]
    columns = ", ".join(f"id + {number} AS {name}" for number, name in enumerate(names))
    _add(workshop, models.Wide(), source={"query": f"SELECT id, {columns} FROM customers ORDER BY id"})
    workshop.models["churn"]["features"] = names
    workshop.write()
    workshop.run(workshop.dispatch())
    assert _answers(workshop) == [float(number) for number in range(1, 106)]


@pytest.mark.parametrize("model", [models.Choosy(), LogisticRegression()], ids=["its own", "NULL"])
def test_errors_are_the_same_with_the_key_of_the_row(workshop: Workshop, model: Any) -> None:
    if isinstance(model, LogisticRegression):
        model.fit(np.eye(3), [0, 1, 1])
    bad = "100" if isinstance(model, models.Choosy) else "NULL"
    workshop.in_source(f"UPDATE customers SET a = {bad} WHERE id = 4")
    said = []
    for isolation in ("process", "none"):
        _add(workshop, model, isolation)
        with pytest.raises(FeatureError) as error:
            workshop.run(workshop.dispatch())
        said.append(str(error.value))
    assert said[0] == said[1]
    assert said[0].endswith("the first such row is id=4")


def test_an_error_brings_the_traceback_of_the_models_process(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = 100 WHERE id = 4")
    _add(workshop, models.Choosy())
    with pytest.raises(FeatureError) as error:
        workshop.run(workshop.dispatch())
    first: BaseException | None = error.value
    chain = []
    while first is not None:
        chain.append(str(first))
        first = first.__cause__
    assert 'isolated_models.py", line' in chain[-1]


def test_rejected_rows_are_the_same_in_either_process(workshop: Workshop) -> None:
    """Of three batches among five, each of which the process has before it has answered the one before."""
    refused = [4, 5003, 12_000]
    workshop.add_rows(20_000)
    workshop.in_source(f"UPDATE customers SET a = 100 WHERE id IN ({', '.join(map(str, refused))})")
    reasons, answers = [], []
    for isolation in ("process", "none"):
        _add(
            workshop,
            models.Choosy(),
            isolation,
            input={"columns": {"id": {"type": "integer"}}},
            error_threshold=5,
            source={"batch_rows": 5000},
            sink={"mode": "replace"},
        )
        dispatch = workshop.dispatch()
        workshop.run(dispatch)
        table = workshop.model().quarantine_sink.table
        rejected = f"SELECT id, reason FROM {table} WHERE dispatch_id = '{dispatch.id}'"
        reasons.append(sorted(workshop.in_sink(rejected)))
        answers.append([(row["id"], row["prediction"]) for row in workshop.predictions()])
    assert [number for number, _ in reasons[0]] == refused
    assert reasons[0] == reasons[1]
    assert len(answers[0]) == 20_005 - len(refused)
    assert answers[0] == answers[1]


def test_a_model_that_needs_a_file_is_told_how_to_get_it(workshop: Workshop, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.txt"
    path.write_text("0.5")
    _add(workshop, models.Reading(path))
    with pytest.raises(MlopsError, match=r"PermissionError.*isolation: none"):
        workshop.run(workshop.dispatch())
    _add(workshop, models.Reading(path), "none")
    workshop.run(workshop.dispatch())
    assert set(_answers(workshop)) == {0.5}


def test_a_model_that_hangs_is_killed_at_the_end_of_its_steps_time(workshop: Workshop) -> None:
    workshop.in_source("UPDATE customers SET a = 100")
    _add(workshop, models.Hanging(), task_timeout="6s")
    dispatch = workshop.dispatch()
    with pytest.raises(ServingError, match=r"models\.churn.*6 s of its step.*task_timeout"):
        workshop.run(dispatch)
    assert model_processes(os.getpid()) == []
    assert workshop.record(dispatch.id).state == "failed"


_DISPATCH = """
import logging, sys
from pathlib import Path
from support.workshop import Workshop
workshop = Workshop.again(Path(sys.argv[1]))
workshop.deployment.event_store().close()  # with it Airflow sets up its own logging
log = logging.getLogger("mlops_plugin.workers.isolation")
log.addHandler(logging.StreamHandler())
log.setLevel(logging.INFO)
workshop.run(workshop.dispatch())
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_model_ends_with_its_task_whatever_it_is_doing(
    workshop: Workshop, end: signal.Signals, parent: int | None
) -> None:
    workshop.in_source("UPDATE customers SET a = 100")
    _add(workshop, models.Hanging())
    command = [sys.executable, "-c", _DISPATCH, str(workshop.folder)]
    environment = {**os.environ, **workshop.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as task:
        assert task.stderr is not None
        assert any("the model hangs now" in line for line in task.stderr)
        (worker,) = model_processes(parent or task.pid)
        task.send_signal(end)
        task.wait(120)
        _wait(lambda: not is_alive(worker))


def _wait(look: Any) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_model_prints_is_in_the_log_up_to_a_limit(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    _add(workshop, models.Chatting())
    with caplog.at_level(logging.INFO, "mlops_plugin.workers.isolation"):
        workshop.run(workshop.dispatch())
    printed = [message for message in caplog.messages if message.startswith("churn prints:")]
    assert any("first line" in line for line in printed)
    assert not any("\x1b" in line or "\x07" in line for line in printed)
    assert 1000 < sum(map(len, printed)) < 2 * MOST_TOLD_BYTES


def test_a_model_that_says_it_is_another_artifact_is_refused(workshop: Workshop) -> None:
    _add(workshop, models.Lying())
    with pytest.raises(ArtifactError, match="the process says aaaaaaaaaaaa"):
        workshop.run(workshop.dispatch())


def test_partitions_of_a_dispatch_in_the_terminal_share_one_process(workshop: Workshop) -> None:
    _add(workshop, models.Placed(), source={"partitions": {"column": "id", "count": 3}})
    workshop.run(workshop.dispatch())
    assert len(set(_answers(workshop))) == 1
    assert model_processes(os.getpid()) == []


def test_isolation_is_no_part_of_what_a_dispatch_in_flight_has_pinned(workshop: Workshop) -> None:
    pinned = []
    for isolation in (None, "process", "none"):
        _add(workshop, models.Choosy(), isolation)
        pinned.append(pinned_settings(workshop.model()))
    assert len(set(pinned)) == 1
