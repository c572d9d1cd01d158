"""Each claim of docs/security.md and docs/guarantees.md names a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "security.md").read_text()
GUARANTEES = (CHECKOUT / "docs" / "guarantees.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE + GUARANTEES)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_test_behind_a_claim_exists(file: str, name: str) -> None:
    tree = ast.parse((CHECKOUT / file).read_text())
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert any(test.startswith("test_") for test in tests)
    if name:
        assert name in tests


def test_every_promise_names_one() -> None:
    lines = [line for line in GUARANTEES.splitlines() if re.match(r"\| (?!promise|---|wait)", line)]
    promises = [line for line in lines if line.count(" | ") == 1]
    assert len(promises) > 25
    assert [line for line in promises if "`tests/" not in line] == []


def test_every_line_of_the_threat_model_names_one() -> None:
    table = PAGE.partition("Everybody else is not trusted")[2].partition("What this does not stop")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(lines) > 10
    assert [line for line in lines if "`tests/" not in line] == []
