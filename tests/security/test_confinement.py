"""A model in a worker can answer, and nothing else: each attempt is made by a pickled model, and refused."""

from __future__ import annotations

import os
import pickle
import socket
import stat
import subprocess
import sys
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
from mlops_plugin.workers.system_calls import PROCESSORS
from support.isolated_models import Spawning
from support.older_kernel import run_on_older_kernel
from support.process_tree import is_alive
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


_IMPORTING = """
import sys
from pathlib import Path
from mlops_plugin.workers.confinement import confine


def reads(path):
    try:
        return bool(path.read_text())
    except PermissionError:
        return False


home = Path(sys.argv[1])
sys.path[:0] = [str(home / "config"), str(home / "dags")]
confine([])
import lookup, shop.prices, spaced.names
readable = [str(path) for path in map(Path, sys.argv[2:]) if reads(path)]
print(lookup.VALUE, shop.prices.VALUE, spaced.names.VALUE, readable)
"""


def test_modules_of_airflows_folders_are_imported_and_its_settings_are_not_read(tmp_path: Path) -> None:
    home = tmp_path / "airflow"
    modules = ("config/lookup.py", "dags/shop/__init__.py", "dags/shop/prices.py", "dags/spaced/names.py")
    secrets = ("airflow.cfg", "config/airflow.cfg", "config/.env", "dags/passwords.txt")
    for name in (*modules, *secrets):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("VALUE = 1\n")
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTING, str(home), *(str(home / name) for name in secrets)],
        env={"AIRFLOW_HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1 1 1 []\n", done.stderr


def test_both_processors_deny_the_same_calls() -> None:
    denied = {name: {*processor.denied} for name, processor in PROCESSORS.items()}
    # Those that ARM64 never had: newer calls do the same there.
    old = {"fork", "vfork", "uselib", "chmod", "chown", "lchown", "utime", "utimes", "futimesat"}
    old |= {"inotify_init"}
    of_x86 = {"modify_ldt", "iopl", "ioperm"}
    assert denied["x86_64"] - denied["aarch64"] == old | of_x86
    assert denied["aarch64"] - denied["x86_64"] == set()
    for processor in PROCESSORS.values():
        numbers = [*processor.denied.values()]
        assert len({*numbers}) == len(numbers)
        rest = processor._asdict().items()
        looked_at = {value for name, value in rest if name not in ("audit_arch", "denied")}
        assert looked_at & {*numbers} == set()


_ON_OLDER_KERNEL = """
import sys
from pathlib import Path
from mlops_plugin.errors import MlopsError
from mlops_plugin.pipeline.inspection import inspect_model
from support.workshop import Workshop

workshop = Workshop.again(Path(sys.argv[1]))
for finding in inspect_model(workshop.model(), workshop.deployment, lambda model: model.source.query):
    if finding.subject.endswith(("isolation", ".model")):
        print(finding.subject, "|", finding.problem, "|", finding.note)
"""


def test_a_kernel_that_confines_nothing_is_named_and_can_be_refused(workshop: Workshop) -> None:
    (workshop.folder / "churn.pickle").write_bytes(pickle.dumps(workshop.classifier))
    digest = sha256((workshop.folder / "churn.pickle").read_bytes()).hexdigest()
    workshop.add_model("churn", model={"format": "pickle", "uri": "churn.pickle", "sha256": digest})
    done = run_on_older_kernel(_ON_OLDER_KERNEL, str(workshop.folder), **workshop.environment)
    assert done.returncode == 0, done.stderr
    found = dict(line.split(" | ", 1) for line in done.stdout.splitlines() if " | " in line)
    assert found["models.churn.model"] == "None | None"
    assert all(each in found["models.churn.model.isolation"] for each in CONFINED)
    workshop.sections["serving"] = {"require_confinement": True}
    workshop.write()
    done = run_on_older_kernel(_ON_OLDER_KERNEL, str(workshop.folder), **workshop.environment)
    assert "models.churn.model | this kernel" in done.stdout


_WITH_CHILDREN = """
import os, sys, time
from pathlib import Path
from support.workshop import Workshop

workshop = Workshop.again(Path(sys.argv[1]))
workshop.run(workshop.dispatch())
print([int(row["prediction"]) for row in workshop.predictions()][0])
"""


def test_processes_that_a_model_starts_on_such_a_kernel_end_with_it(workshop: Workshop) -> None:
    content = pickle.dumps(Spawning())
    (workshop.folder / "churn.pickle").write_bytes(content)
    artifact = {"format": "pickle", "uri": "churn.pickle", "sha256": sha256(content).hexdigest()}
    workshop.add_model("churn", model=artifact, features=list(FEATURES))
    done = run_on_older_kernel(_WITH_CHILDREN, str(workshop.folder), **workshop.environment)
    assert done.returncode == 0, done.stderr
    pid = int(done.stdout.splitlines()[-1])
    assert not is_alive(pid)
