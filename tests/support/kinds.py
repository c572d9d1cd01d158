"""Tells what a test starts; conftest.py marks it so, and `make test-fast` leaves out what takes long.

Nobody keeps a list: the marks follow from a test's fixtures, its parameters, and the functions that its code
and its fixtures call. A test that slips through fails in `make test-fast`: whatever starts a server asks
`refuse_in_fast` first.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import pytest

FAST = "MLOPS_TESTS_FAST"
# What a function that starts or searches something is called, and the marks of a test that reaches it.
_STARTERS = {
    "start_mariadb": ("server",),
    "start_postgres": ("server",),
    "start_s3": ("server",),
    "running_airflow": ("airflow", "slow"),
    "sync_playwright": ("browser",),
    # Another Python, which imports everything again: a command, a model's process, a server of them.
    "subprocess": ("process",),
    "ModelPool": ("process",),
    "ModelProcess": ("process",),
    "start_fork_server": ("process",),
    "create_serving_app": ("process",),  # of the server for programs, whose models are processes
    "write_wheels": ("process",),  # for environments, which another Python installs
    # Hypothesis inside of a test: over a fixture, or as a machine of states.
    "given": ("property",),
    "run_state_machine_as_test": ("property",),
}
_SERVER_FIXTURES = frozenset(("mariadb", "postgres", "mariadb_database", "postgres_database"))
# Parts of the names by which a test asks for a fixture while it runs: `odbc-mariadb`, `mysql`, `postgres`.
_SERVER_NAMES = ("mariadb", "mysql", "postgres")
_OURS = ("support.", "tests.", "test_", "conftest")


class NotFast(Exception):
    """A test that should be quick starts a server."""


def refuse_in_fast(what: str) -> None:
    """Stop a test of `make test-fast` that is about to start `what`."""
    if os.environ.get(FAST):
        raise NotFast(f"`make test-fast` must not start {what}: let support/kinds.py recognize this test")


def kinds(item: pytest.Function) -> set[str]:
    """The marks of a test: `server`, `airflow`, `browser`, `process`, `slow`, `property`."""
    functions = [inspect.unwrap(item.function), *_fixture_functions(item)]
    names = _reached(tuple(function for function in functions if isinstance(function, FunctionType)))
    found = {mark for name in names for mark in _STARTERS.get(name, ())}
    if _SERVER_FIXTURES.intersection(item.fixturenames) or _asks_for_server(item):
        found.add("server")
    if getattr(item.obj, "is_hypothesis_test", False):
        found.add("property")
    return found


def _asks_for_server(item: pytest.Function) -> bool:
    """Whether a test asks for a server by a name that stands in its parameters or in its code."""
    callspec = getattr(item, "callspec", None)
    parameters = [] if callspec is None else list(callspec.params.values())
    named = [getattr(value, "__name__", str(value)) for value in parameters]
    if any(name in _STARTERS for name in named):
        return True
    if "request" not in item.fixturenames:
        return False
    code = inspect.unwrap(item.function).__code__
    named += [value for value in code.co_consts if isinstance(value, str) and " " not in value]
    return any(name in value for value in named for name in _SERVER_NAMES)


@functools.cache  # the examples of a test have the same functions
def _reached(functions: tuple[FunctionType, ...]) -> set[str]:
    """Names that functions use, and the functions of the tests that they call."""
    reached: set[str] = set()
    seen: set[FunctionType] = set()
    waiting = [*functions]
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        for name in _names(function):
            reached.add(name)
            called = function.__globals__.get(name)
            module = str(getattr(called, "__module__", ""))
            if callable(called) and (module.startswith(_OURS) or module.endswith(".conftest")):
                code = inspect.unwrap(called)
                if isinstance(code, FunctionType):
                    waiting.append(code)
    return reached


def _names(function: FunctionType) -> Iterator[str]:
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        yield from code.co_names
        codes.extend(constant for constant in code.co_consts if inspect.iscode(constant))


def _fixture_functions(item: pytest.Function) -> list[Callable[..., Any]]:
    # pytest has no public way to a test's fixtures; tests/support/test_kinds.py fails if this one changes.
    definitions = item._fixtureinfo.name2fixturedefs.values()
    return [inspect.unwrap(definition.func) for group in definitions for definition in group]
