"""What the pages show works: YAML fits the configuration, and commands have names and options of today."""

from __future__ import annotations

import argparse
import ast
import configparser
import copy
import re
import shlex
import subprocess
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import sqlglot
import yaml

from mlops_plugin.cli.arguments import build_parser
from mlops_plugin.config.reference import json_schema

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|`|\$ |run: )mlops ([a-z][^`\n#|&;)]*)", re.MULTILINE)
ABBREVIATED = re.compile(r"[0-9a-f]*\.\.\.")  # a hash
# Keys under which a block without the outer ones belongs.
PLACES = ("Config", "ModelConfig", "SourceConfig")


def blocks(page: Path, language: str) -> list[str]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [
        re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, kind, text in found if kind == language
    ]


def without_required(schema: Any) -> Any:
    """A block shows what it is about, and leaves out the rest."""
    if isinstance(schema, dict):
        return {
            key: without_required(value) for key, value in schema.items() if key not in ("required", "anyOf")
        } | (
            {"anyOf": [without_required(each) for each in schema["anyOf"]]}
            if "anyOf" in schema and "properties" not in schema
            else {}
        )
    return [without_required(each) for each in schema] if isinstance(schema, list) else schema


@cache
def schemas() -> dict[str, dict[str, Any]]:
    whole = without_required(json_schema(["acme.scorecard"]))
    return {
        place: whole if place == "Config" else {**whole["$defs"][place], "$defs": whole["$defs"]}
        for place in PLACES
    }


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_yaml_fits_the_configuration(page: Path) -> None:
    for text in blocks(page, "yaml"):
        shown = yaml.safe_load(re.sub(r"(?<=\s)\.\.\.(?=\s*$)", '"..."', text, flags=re.MULTILINE))
        if shown is None:
            continue  # a comment for an editor
        place = next((each for each in PLACES if shown.keys() <= schemas()[each]["properties"].keys()), None)
        assert place, f"{[*shown]} are keys of no section:\n{text}"
        found = [
            f"{error.json_path}: {error.message}" for error in _validator(place).iter_errors(_plain(shown))
        ]
        assert found == [], text


def _validator(place: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(copy.deepcopy(schemas()[place]))


def _plain(value: Any) -> Any:
    """As an editor sees it: dates are texts in JSON."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, str) and ABBREVIATED.fullmatch(value):
        return "0" * 64
    return value if isinstance(value, bool | int | float | str | None) else str(value)


@cache
def commands() -> dict[tuple[str, ...], set[str]]:
    """Each command's words, and its options."""
    return dict(_leaves(build_parser(), ()))


def _leaves(
    parser: argparse.ArgumentParser, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    below = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not below:
        yield words, {option for action in parser._actions for option in action.option_strings}
    for actions in below:
        for name, command in actions.choices.items():
            yield from _leaves(command, (*words, name))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_exist_with_their_options(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for shown in COMMAND.findall(text):
        words = shlex.split(shown.replace("'", "").replace('"', ""))
        known = [
            each for each in commands() if words[: len(each)] == [*each] or len(words) == 1 == len(each) - 1
        ]
        known = [each for each in known if words[0] == each[0]]
        assert known, f"mlops {shown}"
        options = {word for word in words if word.startswith("-")}
        assert options <= set().union(*(commands()[each] for each in known)), f"mlops {shown}"


def _spoken(page: Path) -> str:
    """All code of a page: the blocks, and what stands between backticks."""
    text = page.read_text(encoding="utf-8")
    inline = re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))
    return "\n".join([*(block for _, _, block in BLOCK.findall(text)), *inline])


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_a_block_can_be_read_in_its_language(page: Path) -> None:
    readers: dict[str, Callable[[str], object]] = {
        "python": ast.parse,
        "sql": lambda text: sqlglot.parse(text, dialect="mysql"),
        "toml": tomllib.loads,
        "ini": configparser.ConfigParser(strict=False, interpolation=None).read_string,
        "yaml": yaml.safe_load,
        "": str,  # what a program prints
    }
    shell: list[str] = []
    for _, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language in ("sh", "bash"):
            shell.append(textwrap.dedent(text))
        else:
            readers[language](textwrap.dedent(text))
    if shell:
        command = ["bash", "-n", "-c", "\n".join(shell)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_what_make_compose_and_pip_are_asked_for_exists(page: Path) -> None:
    code = _spoken(page)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|&& |; )make ([a-z][\w-]+)", code, re.MULTILINE)) <= targets
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"].keys()
    asked = re.findall(r"docker compose (?:exec|logs|restart|run)(?: -\S+)* ([\w-]+)", code)
    assert set(asked) <= services
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        extra for listed in re.findall(r"mlops-plugin\[([\w,-]+)\]", code) for extra in listed.split(",")
    }
    assert extras <= project["optional-dependencies"].keys()
    modules = {path.stem for path in (ROOT / "benchmarks").iterdir()}
    assert set(re.findall(r"python -m benchmarks\.(\w+)", code)) <= modules
    parts = re.findall(r'^    "(\w+)": ', (ROOT / "benchmarks" / "__main__.py").read_text(), re.MULTILINE)
    assert set(re.findall(r"PART=(\w+)", code)) <= set(parts)
