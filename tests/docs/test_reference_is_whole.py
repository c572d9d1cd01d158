"""What the source has, found by reading it as text, stands in the reference: nothing is left out.

docs/reference.py asks the running code instead, so what it forgets is found here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from mlops_plugin.config.reference import json_schema
from mlops_plugin.events import records

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugins" / "mlops_plugin"
HTTP = {"get", "post", "put", "patch", "delete"}


@cache
def trees(folder: str = ".") -> dict[Path, ast.Module]:
    paths = sorted((PACKAGE / folder).rglob("*.py"))
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def calls(tree: ast.AST) -> Iterator[tuple[str, str, ast.Call]]:
    """Each call's name, its first argument if that is a text, and the call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0] if node.args else None
            yield (
                name,
                first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else "",
                node,
            )


def commands() -> set[str]:
    """The names and options of the command line."""
    text = (PACKAGE / "cli" / "arguments.py").read_text(encoding="utf-8")
    named = dict(re.findall(r'(\w+) = \w+\.add_parser\(\s*"([\w-]+)"', text))
    groups = set(re.findall(r"(\w+)\.add_subparsers\(", text))
    options = re.findall(r'add_argument\(\s*"(--[\w-]+)"', text)
    names = {f" {name}`" for variable, name in named.items() if variable not in groups}
    return names | {f"`{each}" for each in options}


def routes() -> set[str]:
    """Methods and paths of the pages and of `mlops serve`."""
    found = set()
    for tree in [*trees("web").values(), *trees("inference_server").values()]:
        prefix = ""
        for name, _, call in calls(tree):
            if name == "APIRouter":
                prefix = next(
                    (ast.literal_eval(key.value) for key in call.keywords if key.arg == "prefix"), ""
                )
        for name, path, call in calls(tree):
            is_path = not path or path.startswith("/")
            if name in HTTP and is_path and isinstance(call.func, ast.Attribute):
                if getattr(call.func.value, "id", "") == "router":
                    found.add(f"{name.upper()} {prefix}{path}")
            elif name == "add_api_route" and path:
                found.add(f"GET {path}")
    return found


def errors() -> set[str]:
    """Every class that descends from `MlopsError`, wherever it is."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py")))
    bases = {
        name: set(re.findall(r"\w+", above))
        for name, above in re.findall(r"^class (\w+)\((.+)\)", text, re.M)
    }
    found = {"MlopsError"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found - {"MlopsError"}


def metrics() -> set[str]:
    text = (PACKAGE / "inference_server" / "metrics.py").read_text(encoding="utf-8")
    return set(re.findall(r"# TYPE (mlops_\w+) ", text)) | {
        f"mlops_serve_{name}" for name in re.findall(r'\("(\w+)", "(?:counter|gauge)"', text)
    }


def permissions() -> set[str]:
    """What routes ask for."""
    asked = {"reads": "can_read", "creates": "can_create"}
    found = (call for tree in trees("web").values() for call in calls(tree))
    return {f"`{asked[name]}` on `{text}`" for name, text, _ in found if name in asked and text}


def values_of_events() -> set[str]:
    kinds = (records.Kind, records.Step, records.Origin, records.State)
    return {value for kind in kinds for value in get_args(kind)}


def keys() -> set[str]:
    schema: dict[str, Any] = json_schema()
    return {key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", {})}


KINDS: dict[str, tuple[Callable[[], set[str]], int, str, str]] = {
    # What to find, how much of it there is at least, the page, and how a line of it looks.
    "commands": (commands, 30, "reference.md", "{}"),
    "routes": (routes, 30, "reference.md", "| `{}` |"),
    "errors": (errors, 30, "reference.md", "| `{}` |"),
    "metrics": (metrics, 7, "reference.md", "| `{}` |"),
    "permissions": (permissions, 4, "reference.md", "| {} |"),
    "words in events": (values_of_events, 15, "reference.md", "`{}`"),
    "keys": (keys, 80, "configuration.md", "| `{}` |"),
}


def missing(kind: str, text: str) -> set[str]:
    find, _, _, looks = KINDS[kind]
    return {each for each in find() if looks.format(each) not in text}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_missing_and_a_line_that_were_would_be_found(kind: str) -> None:
    find, least, page, looks = KINDS[kind]
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert len(find()) >= least
    assert missing(kind, text) == set()
    one = max(find())
    assert one in missing(kind, text.replace(looks.format(one), ""))


def test_the_page_on_events_explains_each_kind() -> None:
    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    assert [kind for kind in get_args(records.Kind) if f"| `{kind}` |" not in text] == []
