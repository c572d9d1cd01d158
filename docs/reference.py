"""Writes docs/reference.md from the code; `make docs` runs it.

The keys of the configuration have a generator of their own, `mlops_plugin.config.reference`: `mlops schema`
prints them.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard, get_args

import sqlalchemy as sa
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from mlops_plugin import errors
from mlops_plugin.cli.arguments import build_parser
from mlops_plugin.events import records, tables
from mlops_plugin.inference_server.api_description import describe_api
from mlops_plugin.inference_server.app import create_app
from mlops_plugin.inference_server.gate import GateClosed, NotSignedIn
from mlops_plugin.inference_server.metrics import Metrics
from mlops_plugin.orchestration.permissions import GRANTS, Permission
from mlops_plugin.web.app import create_app as create_pages
from mlops_plugin.web.error_status import status_of
from mlops_plugin.web.routers import all_views

PAGE = Path(__file__).resolve().parent / "reference.md"
_HEAD = """# Reference

Look up commands, addresses, permissions, metrics, tables and errors here. `make docs` writes it from the
code.

The keys of `config.yaml` are in [configuration](configuration.md), what each role may do in
[access](access.md), and what the columns of the event store mean in [events](events.md).
"""
# Values of columns, by the type that the code gives them.
_VALUES = (
    ("`state` of a dispatch", records.State),
    ("`origin` of a dispatch", records.Origin),
    ("`step` of an event", records.Step),
    ("`kind` of an event", records.Kind),
)
# Only `mlops serve` raises these, and answers them itself.
_STATUS_OF_SERVE: dict[type[errors.MlopsError], int] = {NotSignedIn: 401, GateClosed: 503}


def render() -> str:
    """The page, in Markdown."""
    parts = [_HEAD, *commands(), *addresses(), *permissions(), *metrics(), *event_tables(), *error_classes()]
    return "\n".join(parts).rstrip("\n") + "\n"


def commands() -> Iterator[str]:
    """Each command with its arguments."""
    yield "## Commands\n"
    parser = build_parser()
    yield f"{parser.description} Every command takes `--config FILE` before its name.\n"
    for words, command, purpose in _leaves(parser, ("mlops",), ""):
        yield f"### `{' '.join(words)}`\n"
        yield f"{_sentence(purpose)}\n"
        options = [action for action in command._actions if action.dest != "help"]
        if options:
            yield from _table(("argument", "meaning"), ((_argument(each), _help(each)) for each in options))


def _leaves(
    parser: argparse.ArgumentParser, words: tuple[str, ...], purpose: str
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser, str]]:
    below = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not below:
        yield words, parser, purpose
    for actions in below:
        purposes = {each.dest: each.help or "" for each in actions._choices_actions}
        for name, command in actions.choices.items():
            yield from _leaves(command, (*words, name), purposes[name])


def _argument(action: argparse.Action) -> str:
    value = action.metavar or (action.choices and "|".join(map(str, action.choices))) or ""
    shown = " ".join(value) if isinstance(value, tuple) else str(value)
    names = ", ".join(sorted(action.option_strings, key=len, reverse=True))
    return f"`{' '.join(part for part in (names, shown) if part)}`"


def _help(action: argparse.Action) -> str:
    # A number of this machine's cores is not everybody's.
    text = re.sub(r", here %\(default\)s", "", action.help or "the model")
    return text.replace("%(default)s", str(action.default))


def addresses() -> Iterator[str]:
    """What the pages' app and `mlops serve` answer."""
    yield "## Addresses\n"
    yield "Below `/mlops` of Airflow's API server, for signed-in users ([who may](access.md)):\n"
    nothing: Any = None  # the routes are only listed
    yield from _table(("request", "answer"), _routes(create_pages(nothing, all_views()).routes))
    yield "Of `mlops serve` ([serving](serving.md)):\n"
    yield from _table(("request", "answer"), _inference_routes())


def _inference_routes() -> Iterator[tuple[str, str]]:
    nothing: Any = None
    described = describe_api(create_app(nothing, nothing, nothing))
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            yield f"`{method.upper()} {path}`", operation["description"]


def _routes(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
    for route in routes:
        assert isinstance(route, APIRoute)
        for method in sorted(route.methods):
            yield f"`{method} {route.path}`", _summary(route.endpoint)


def permissions() -> Iterator[str]:
    """Who has the permissions of the views."""
    yield "## Permissions\n"
    yield "`mlops roles sync` creates these, and grants them to Airflow's own roles:\n"
    granted: dict[Permission, list[str]] = {}
    for role, several in GRANTS.items():
        for permission in several:
            granted.setdefault(permission, []).append(role)
    rows = ((f"`{action}` on `{name}`", ", ".join(roles)) for (action, name), roles in granted.items())
    yield from _table(("permission", "roles"), rows)


def metrics() -> Iterator[str]:
    """What `mlops serve` counts."""
    yield "## Metrics\n"
    yield "`GET /metrics` of `mlops serve`, for Prometheus:\n"
    with tempfile.TemporaryDirectory() as folder:
        text = Metrics(Path(folder)).text()
    meanings = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    kinds = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    rows = ((f"`{name}`", kind, meanings[name]) for name, kind in kinds)
    yield from _table(("metric", "kind", "meaning"), rows)


def event_tables() -> Iterator[str]:
    """The tables of the event store, and the words in them."""
    yield "## Tables of the event store\n"
    rows = ((f"`{table.name}`", _columns(table)) for table in tables.metadata.sorted_tables)
    yield from _table(("table", "columns"), rows)
    words = ((name, ", ".join(f"`{value}`" for value in get_args(kind))) for name, kind in _VALUES)
    yield from _table(("column", "values"), words)


def _columns(table: sa.Table) -> str:
    return ", ".join(f"`{column.name}`" for column in table.columns)


def error_classes() -> Iterator[str]:
    """Every error that the project raises on purpose."""
    yield "## Errors\n"
    yield (
        "The log of a failed task names one of these. A task that fails with a final one is not retried: it\n"
        "would fail again until somebody changes something. The status is that of pages and APIs.\n"
    )
    found = [*(each for each in vars(errors).values() if is_own(each)), *_STATUS_OF_SERVE]
    rows = (
        (f"`{each.__name__}`", _summary(each), "yes" if each.is_final else "", _status(each))
        for each in found
    )
    yield from _table(("error", "meaning", "final", "status"), rows)


def is_own(found: object) -> TypeGuard[type[errors.MlopsError]]:
    """Whether this is a class of the project's errors."""
    return isinstance(found, type) and issubclass(found, errors.MlopsError) and found is not errors.MlopsError


def _status(kind: type[errors.MlopsError]) -> str:
    return str(_STATUS_OF_SERVE.get(kind) or status_of(kind.__new__(kind)))


def _summary(documented: object) -> str:
    """The first paragraph of its docstring, on one line."""
    return " ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split())


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    path.write_text(render(), encoding="utf-8")
