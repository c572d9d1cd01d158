"""The generated files: the JSON Schema for editors and the reference for readers."""

from __future__ import annotations

import copy
import functools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mlops_plugin.config import reference
from mlops_plugin.config.loader import load_config
from mlops_plugin.errors import ConfigError

ROOT = Path(__file__).parents[2]
RENEW = "renew it with `PYTHONPATH=plugins python -m mlops_plugin.config.reference`"


@functools.cache
def schema_of_configuration() -> dict[str, Any]:
    return reference.json_schema()


def parameters() -> list[tuple[str, str, dict[str, Any]]]:
    schema = schema_of_configuration()
    sections = {"Config": schema, **schema["$defs"]}
    return [(name, key, item) for name, part in sections.items() for key, item in part["properties"].items()]


def demo() -> dict[str, Any]:
    """The demo's configuration as an editor sees it: dates are texts in JSON."""
    loaded = yaml.safe_load((ROOT / "include/config.yaml").read_text())
    plain: dict[str, Any] = json.loads(json.dumps(loaded, default=str))
    return plain


@pytest.mark.parametrize("file", [reference.SCHEMA_FILE, reference.MARKDOWN_FILE])
def test_a_generated_file_is_current(file: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "include").mkdir()
    shutil.copy(ROOT / reference.MARKDOWN_FILE, tmp_path / "docs")
    reference.renew(tmp_path)

    assert (tmp_path / file).read_text() == (ROOT / file).read_text(), f"{file} is out of date: {RENEW}"


@pytest.mark.parametrize(("section", "key", "parameter"), parameters())
def test_every_parameter_has_meaning_type_default_and_a_valid_example(
    section: str, key: str, parameter: dict[str, Any]
) -> None:
    schema = schema_of_configuration()
    # Not `jsonschema.validate`, which judges the whole schema each time; a test below does that once.
    validator = jsonschema.Draft202012Validator({**parameter, "$defs": schema["$defs"]})
    required = (schema if section == "Config" else schema["$defs"][section]).get("required", [])

    assert len(parameter["description"]) > 10
    assert {"type", "anyOf", "enum", "$ref"} & parameter.keys()
    assert key in required or "default" in parameter or "$ref" in parameter
    assert parameter["examples"]
    for example in parameter["examples"]:
        validator.validate(example)
    if parameter.get("default") is not None:
        validator.validate(parameter["default"])


def test_the_reference_has_a_row_for_every_parameter() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", reference.markdown(), re.MULTILINE)
    inherited = len(schema_of_configuration()["$defs"]["ScheduleSettings"]["properties"])

    assert len(rows) == len(parameters()) - inherited


def test_every_row_of_the_reference_has_five_cells() -> None:
    rows = [line for line in reference.markdown().splitlines() if line.startswith("| `")]

    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {7}


def test_the_schema_is_a_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema_of_configuration())


def test_the_schema_accepts_the_demo() -> None:
    jsonschema.validate(demo(), schema_of_configuration())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("models", "wine", "schedul"), "5m"),
        (("models", "wine", "name"), "x"),
        (("models", "wine", "retry_delay"), "5 minutes"),
        (("models", "wine", "retries"), "5"),
        (("models", "wine", "key"), []),
        (("models", "wine", "model", "format"), "pmml"),
        (("models", "wine", "source", "connection"), "mysql://u:p@h/d"),
        (("models", "wine", "sink", "table"), "a b; c"),
        (("models", "wine", "start_date"), "tomorrow"),
        (("models", "a b"), None),
        (("defaults", "owner"), ""),
        (("events", "path"), ""),
        (("staging", "keep"), 5),
        (("other",), {}),
    ],
)
def test_editor_and_loader_refuse_the_same(tmp_path: Path, path: tuple[str, ...], value: object) -> None:
    changed = copy.deepcopy(demo())
    section = changed
    for part in path[:-1]:
        section = section[part]
    section[path[-1]] = value
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(changed))

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, schema_of_configuration())
    assert refuses(file)


def refuses(file: Path) -> bool:
    try:
        return bool(load_config(file).broken)
    except ConfigError:
        return True


def test_the_pages_examples_are_configurations(tmp_path: Path) -> None:
    page = (ROOT / reference.MARKDOWN_FILE).read_text()
    examples = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "models:" in block]
    assert examples
    for example in examples:
        file = tmp_path / "config.yaml"
        file.write_text(example)
        assert load_config(file).model("churn").sink.table == "churn_predictions"
        jsonschema.validate(yaml.safe_load(example), schema_of_configuration())
