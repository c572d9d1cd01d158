"""What deployments rely on stays: docs/architecture.md lists it, and the code has it."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest

from mlops_plugin.config.reference import json_schema
from mlops_plugin.events import tables

CHECKOUT = Path(__file__).resolve().parents[2]
# Name, and the parameters that a caller may pass.
CALLABLES = {
    "mlops_plugin.dag_factory:build_dags": ("path",),
    "mlops_plugin.dag_factory:raise_broken_models": ("path",),
    "mlops_plugin.monitor_dag:build_monitor_dags": ("path",),
    "mlops_plugin.preload:preload": ("command",),
    "mlops_plugin.cli:main": ("arguments",),
    "mlops_plugin.config.loader:find_config_file": (),
}
# Columns that queries of a deployment may read (docs/events.md). More may come; none of these may go.
EVENT_TABLES = {
    "mlops_dispatch": {"dispatch_id", "model", "state", "origin", "rows_persisted", "artifact_sha256"},
    "mlops_event": {"dispatch_id", "model", "kind", "step", "at", "row_count", "seconds", "error", "details"},
}
SECTIONS = {"models", "defaults", "events", "staging", "serving", "monitor"}
MODEL_KEYS = {"key", "model", "source", "sink", "schedule", "input", "output", "quarantine", "showroom"}


def page() -> str:
    text = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return text.partition("\n## Public surface\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(("name", "parameters"), CALLABLES.items())
def test_a_public_function_is_where_deployments_import_it_from(
    name: str, parameters: tuple[str, ...]
) -> None:
    module, _, function = name.partition(":")
    found = inspect.signature(getattr(importlib.import_module(module), function))
    assert tuple(found.parameters)[: len(parameters)] == parameters
    for parameter in list(found.parameters.values())[len(parameters) :]:
        assert parameter.default is not inspect.Parameter.empty


def test_the_page_lists_what_is_public_and_nothing_else() -> None:
    listed = set(re.findall(r"`(mlops_plugin(?:\.\w+)+)`", page()))
    assert listed == {name.replace(":", ".") for name in CALLABLES}


def test_the_command_and_the_plugins_entry_have_their_names() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"mlops": "mlops_plugin.cli:main"}
    assert importlib.import_module("mlops_plugin_entry").MlopsPlugin.name == "mlops"


def test_the_configuration_keeps_its_sections_and_a_models_keys() -> None:
    schema = json_schema()
    assert set(schema["properties"]) >= SECTIONS
    assert set(schema["$defs"]["ModelConfig"]["properties"]) >= MODEL_KEYS


@pytest.mark.parametrize(("table", "columns"), EVENT_TABLES.items())
def test_a_table_of_events_keeps_its_columns(table: str, columns: set[str]) -> None:
    assert set(tables.metadata.tables[table].columns.keys()) >= columns
