"""Servers and databases that tests ask for by name; a server starts when the first test needs it."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from mlops_plugin.formats.native_threads import wait_passively
from mlops_plugin.workers.forking import VARIABLE
from support.forgotten_secrets import forget_secrets
from support.fork_servers import fork_server_beside, wait_until
from support.kinds import kinds
from support.preloaded_python import PreloadedPython, preloaded_python
from support.process_tree import model_processes
from support.random_examples import PROFILE, examples
from support.servers import Server, ServerDatabase, start_mariadb, start_postgres
from support.ways_in import WAYS_IN, WayIn, way_in

_OF_PYTEST = "PYTEST_CURRENT_TEST"
pytest_plugins = ["support.workshop"]


def _leave_the_users_airflow_alone() -> None:
    """Give Airflow a home of ours before it is imported, as it is while tests are collected.

    A folder is in the place of its database, so that nobody makes one by looking into it.
    """
    for name in [name for name in os.environ if name.startswith(("AIRFLOW", "_AIRFLOW"))]:
        del os.environ[name]
    home = Path(tempfile.mkdtemp(prefix="airflow-of-tests-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    (home / "airflow.db").mkdir()
    os.environ["AIRFLOW_HOME"] = str(home)


_leave_the_users_airflow_alone()

# `ci` takes the same examples each time, so that a test fails because of a change and not by chance.
# `make test-long` looks for new ones.
settings.register_profile("long", max_examples=examples(100), deadline=None, print_blob=True)
settings.load_profile(PROFILE)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector, and so each test, a look at 600,000 objects that stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what it starts."""
    for item in items:
        if isinstance(item, pytest.Function):
            for name in sorted(kinds(item)):
                item.add_marker(name)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Give each test the same random numbers: an estimator without a `random_state` takes numpy's."""
    if "numpy" in sys.modules:  # else the tests that need no model would load it
        sys.modules["numpy"].random.seed(0)


@pytest.fixture(autouse=True, scope="module")
def _as_found() -> Iterator[None]:
    """Leave the next file of tests the environment that this one found, no process of a model, and no word
    that is masked because it was a secret here.
    """
    found = {name: value for name, value in os.environ.items() if name != _OF_PYTEST}
    yield
    for name in os.environ.keys() - found.keys() - {_OF_PYTEST}:
        del os.environ[name]
    os.environ.update(found)
    forget_secrets()
    # A request that a test gave up may be ending its own.
    wait_until(lambda: model_processes(os.getpid()) == [])


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB server of this test process."""
    with start_mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of this test process."""
    with start_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreloadedPython]:
    """A Python that forks the processes of tests, which so need not import anything."""
    with preloaded_python(tmp_path_factory.mktemp("preloaded")) as python:
        yield python


@pytest.fixture(scope="module")  # other tests look at what this process has started
def _fork_server() -> Iterator[str]:
    wait_passively()  # what libraries read when they are loaded must be the same for who asks for a process
    with fork_server_beside() as name:
        yield name


@pytest.fixture
def forked_models(_fork_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the models of steps forked, as in Airflow's tasks, where the test is not about a new Python."""
    wait_passively()
    monkeypatch.setenv(VARIABLE, _fork_server)


@pytest.fixture
def mariadb_database(mariadb: Server) -> ServerDatabase:
    """An empty database on the MariaDB server."""
    return mariadb.new_database()


@pytest.fixture
def postgres_database(postgres: Server) -> Iterator[ServerDatabase]:
    """An empty database on the PostgreSQL server."""
    database = postgres.new_database()
    yield database
    postgres.take_back(database)


@pytest.fixture(params=WAYS_IN)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    """Every way into a database in turn, each with an empty database."""
    return way_in(request.param, request, tmp_path)
