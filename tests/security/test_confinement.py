"""A model in a worker can answer, and nothing else: each attempt is made by a pickled model, and refused."""

from __future__ import annotations

import os
import pickle
import socket
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlops_plugin.config.schema import ServingConfig
from mlops_plugin.formats.runtime import load_runtime
from mlops_plugin.workers.pool import ModelPool
from mlops_plugin.workers.process import ModelProcess
from support.prying_models import ATTEMPTS, Prying
from support.workshop import FEATURES, Workshop

CONFINED = {"files", "TCP", "signals", "sockets", "new processes and programs", "other processes"}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file in a folder that is not the model's."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    path = folder / "secret.txt"
    path.write_text("secret")
    path.chmod(0o600)
    return path


@pytest.fixture
def prying(workshop: Workshop, target: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelProcess]:
    """A worker with a model that reaches for the file, this process and a port."""
    monkeypatch.setenv("MY_SECRET", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        model = Prying(target, os.getpid(), server.getsockname()[1])
        content = pickle.dumps(model)
        (workshop.folder / "prying.pickle").write_bytes(content)
        digest = sha256(content).hexdigest()
        artifact = {"format": "pickle", "uri": "prying.pickle", "sha256": digest}
        workshop.add_model("prying", model=artifact, features=list(FEATURES))
        pool = ModelPool(ServingConfig.model_validate({"memory_mb": 700}))
        try:
            with pool.runtime(workshop.model("prying")) as process:
                yield process
        finally:
            pool.close()


def _rows(*numbers: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"a": float(number), "b": 0.0, "c": 0.0} for number in numbers])


def test_a_model_is_refused_each_attempt(prying: ModelProcess, target: Path) -> None:
    answers = {
        name: prying.predict(_rows(number)).column("prediction")[0].as_py()
        for number, name in enumerate(ATTEMPTS)
    }
    assert {name for name, answer in answers.items() if answer != 0} == set()
    assert target.read_text() == "secret"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["secret.txt"]


def test_the_attempts_succeed_where_nothing_confines(workshop: Workshop, target: Path) -> None:
    # Those that would harm this process, or need root, are left out.
    harmless = (
        *("read a file", "list a folder", "write a file", "see the caller's environment", "open a socket"),
        *("open a local socket", "connect", "start a program", "end the caller", "end its group"),
        *("watch the caller", "send signals through a file", "share memory", "share memory by name"),
    )
    numbers = list(ATTEMPTS)
    with socket.create_server(("127.0.0.1", 0)) as server:
        model = Prying(target, os.getpid(), server.getsockname()[1])
        answers = {name: model.predict(np.array([[numbers.index(name)]])).tolist() for name in harmless}
    assert answers == {name: [1.0] for name in harmless}


def test_a_worker_says_what_confines_it(prying: ModelProcess) -> None:
    assert set(prying.confinement) == CONFINED


def test_a_confined_model_answers_bit_for_bit_like_a_free_one(workshop: Workshop) -> None:
    rows = pa.RecordBatch.from_pylist([{"a": n / 7, "b": -n / 3, "c": n**0.5} for n in range(500)])
    free = load_runtime(workshop.model().model, features=None)
    pool = ModelPool(ServingConfig())
    try:
        with pool.runtime(workshop.model()) as confined:
            assert confined.predict(rows).equals(free.predict(rows))
    finally:
        pool.close()
