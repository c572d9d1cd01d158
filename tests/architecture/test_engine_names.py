"""No module asks for an engine's name but the one that holds the engines, and those that choose a driver."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "plugins" / "mlops_plugin"
NAMES = frozenset(("mysql", "mariadb", "postgres", "postgresql", "sqlite", "mssql", "duckdb", "ansi"))
MAY_NAME_ENGINES = (
    "databases/engines/",
    "databases/opening.py",  # chooses the driver of rows by the connection's type
    "events/address.py",  # which connections can hold the event store
    "events/servers/engine.py",  # chooses the driver of the event store
    "preload.py",  # a package of that name
    "events/sql_dialects.py",  # what differs between SQLAlchemy's dialects, for the event store
)


def asks_for_a_name(source: str) -> list[int]:
    """The lines that compare something with an engine's name, match it, or look it up by one."""
    if not any(name in source for name in NAMES):
        return []  # most modules: to parse them takes seconds
    return sorted({line for node in ast.walk(ast.parse(source)) for line in _lines(node)})


def _lines(node: ast.AST) -> Iterator[int]:
    match node:
        case ast.Compare():
            compared: list[ast.AST] = [node.left, *node.comparators]
        case ast.match_case():
            compared = [node.pattern]
        case ast.Dict():
            compared = [key for key in node.keys if key is not None]
        case _:
            return
    for part in compared:
        for inner in ast.walk(part):
            if isinstance(inner, ast.Constant) and inner.value in NAMES:
                yield inner.lineno


def test_only_the_engines_know_their_names() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if not str(path.relative_to(PACKAGE)).startswith(MAY_NAME_ENGINES)
        for line in asks_for_a_name(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_a_name_that_is_asked_for_is_seen() -> None:
    source = (
        'if engine.name == "mysql": pass\n'
        'if engine.name in ("sqlite", "other"): pass\n'
        'match engine.name:\n    case "postgresql" | "x": pass\n'
        'casts = {"mssql": 1}\n'
        'print("mysql")\n'
    )
    assert asks_for_a_name(source) == [1, 2, 4, 5]
