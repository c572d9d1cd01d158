"""What stands in one place only: Airflow's names, SVG, text of values, views' files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = CHECKOUT / "plugins" / "mlops_plugin"
# `masking.py` tells Airflow's masker what is secret.
# `config/loader.py` asks Airflow for the place of the configuration file.
# `cli/airflow_context.py` asks it for its metadata database.
OUTSIDE_OF_ORCHESTRATION = {
    "plugin.py",
    "connections.py",
    "masking.py",
    "web/access.py",
    "config/loader.py",
    "cli/airflow_context.py",
}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Each module that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_only_these_modules_know_airflow() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in SOURCES
        if any(name == "airflow" or name.startswith("airflow.") for name in imports(path))
    }
    assert {name for name in found if not name.startswith("orchestration/")} == OUTSIDE_OF_ORCHESTRATION


def test_only_one_module_writes_svg() -> None:
    drawing = re.compile(r"<(svg|rect|circle|line|path|polyline|text)\b")
    found = {
        path.relative_to(CHECKOUT).as_posix()
        for folder in (PACKAGE, CHECKOUT / "benchmarks")
        for path in (*folder.rglob("*.py"), *folder.rglob("*.html"))
        if drawing.search(path.read_text())
    }
    assert found == set()
    assert "class_=" in (PACKAGE / "web" / "svg.py").read_text()


def test_templates_format_no_values() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.html")
        if re.search(r"%\.\d|\{:[^}]*\}|%H:%M:%S", path.read_text())
    }
    assert found == set()
