"""Rooms stay small, and their names say what they hold."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ROOTS = ("plugins", "local_stack")
LARGEST_ROOM = 16
# `cli` exports `main`, its public name; `config.schema` is one namespace of sections, so that users of the
# configuration need not know which file holds which.
WITH_CODE_IN_INIT = frozenset(("plugins/mlops_plugin/cli", "plugins/mlops_plugin/config/schema"))
# A database's name is the right name for its engine and its driver.
SHARED_NAMES = frozenset(("duckdb", "mysql"))


def modules(*roots: str) -> Iterator[Path]:
    for root in roots:
        yield from sorted((CHECKOUT / root).rglob("*.py"))


def room(module: Path) -> str:
    return str(module.parent.relative_to(CHECKOUT))


def is_docstring_only(module: Path) -> bool:
    body = ast.parse(module.read_text(encoding="utf-8")).body
    return len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)


@functools.cache
def taken_names() -> frozenset[str]:
    """The modules of the standard library and of the installed packages."""
    return sys.stdlib_module_names | importlib.metadata.packages_distributions().keys()


def test_no_room_holds_more_files_than_a_newcomer_can_scan() -> None:
    sizes: dict[str, int] = {}
    for module in modules(*ROOTS, "benchmarks"):
        if module.stem != "__init__" and "migrations/versions" not in str(module):
            sizes[room(module)] = sizes.get(room(module), 0) + 1
    assert len(sizes) > 10
    assert {name: size for name, size in sizes.items() if size > LARGEST_ROOM} == {}


def test_a_package_file_holds_a_docstring_only() -> None:
    packages = [module for module in modules(*ROOTS, "tests", "benchmarks") if module.name == "__init__.py"]
    with_code = {room(module) for module in packages if not is_docstring_only(module)}
    assert with_code == WITH_CODE_IN_INIT


def test_every_module_opens_with_a_sentence_about_itself() -> None:
    without = [
        str(module.relative_to(CHECKOUT))
        for module in modules(*ROOTS, "benchmarks")
        if not ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    ]
    assert without == []


def test_no_module_is_named_like_one_of_the_standard_library_or_of_a_package() -> None:
    names = {module.stem for module in modules(*ROOTS, "tests/support", "benchmarks")} - {
        "__init__",
        "__main__",
    }
    assert {name for name in names if name in taken_names()} <= SHARED_NAMES


def test_the_name_check_knows_both_kinds() -> None:
    assert taken_names() >= {"logging", "requests"}
    assert "dispatch" not in taken_names()
