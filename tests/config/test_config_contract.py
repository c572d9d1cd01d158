"""`input:`, `output:`, `quarantine:` and `error_threshold:`: what is refused, in which words; defaults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.conftest import CHURN
from mlops_plugin.config.loader import LoadedConfig
from mlops_plugin.config.schema import SinkConfig, rows_tolerated

ComplainAbout = Callable[[str], list[str]]
Load = Callable[..., LoadedConfig]

COLUMN = "input.columns.age: "


def require_complaint(found: list[str], problem: str) -> None:
    """One problem, with the place of the line that the test has added."""
    (only,) = found
    assert only.startswith(f"config.yaml:7: models.churn.{problem}")


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("{type: int}", "input.columns.age.type: found the text 'int', expected one of integer, number"),
        ("{typ: integer}", "input.columns.age.typ: unknown key; did you mean 'type'?"),
        ("{min: low}", "input.columns.age.min: found 'low', expected a number or a date"),
        ("{min: true}", "input.columns.age.min: found true, expected a number or a date"),
        ("{max: .inf}", "input.columns.age.max: found inf, expected a number or a date"),
        ("{min: 5, max: 3}", COLUMN + "min 5 is above max 3"),
        ("{min: 2026-02-01, max: 2026-01-01}", COLUMN + "min 2026-02-01 is above max 2026-01-01"),
        ("{min: 1, max: 2026-01-01}", COLUMN + "min 1 and max 2026-01-01 are of different kinds"),
        ("{type: integer, min: 0.2, max: 0.8}", COLUMN + "there is no whole number from 0.2 to 0.8"),
        ("{type: text, min: 1}", COLUMN + "min and max are for numbers and dates, but type is text"),
        ("{type: date, min: 1}", COLUMN + "1 is not a date, but type is date"),
        ("{type: number, max: 2026-01-01}", COLUMN + "2026-01-01 is not a number, but type is number"),
        ("{allowed: red}", "input.columns.age.allowed: expected a list with at least one value"),
        ("{allowed: []}", "input.columns.age.allowed: expected a list with at least one value"),
        ("{allowed: [1, red]}", "input.columns.age.allowed: found [1, 'red']"),
        ("{allowed: [1, 1]}", "input.columns.age.allowed: '1' is listed twice"),
        ("{type: integer, allowed: [1.5]}", COLUMN + "allowed value 1.5 is not of type integer"),
        ("{type: boolean, allowed: [1]}", COLUMN + "allowed value 1 is not of type boolean"),
        ("{allowed: [1, 7], max: 5}", COLUMN + "allowed value 7 is above max 5"),
        ("{on_violation: impute}", COLUMN + "on_violation: impute needs a value to take its place"),
        ("{impute: 0}", COLUMN + "impute needs on_violation: impute, found reject"),
        ("{min: 1, on_violation: impute, impute: 0}", COLUMN + "impute: 0 is below min 1"),
        (
            "{allowed: [a, b], on_violation: impute, impute: c}",
            COLUMN + "impute: 'c' is not among the allowed",
        ),
        (
            "{nullable: false, on_violation: impute, impute: null}",
            COLUMN + "impute: null makes a value missing",
        ),
        (
            "{on_violation: ignore}",
            "input.columns.age.on_violation: found the text 'ignore', expected one of",
        ),
        ("{nullable: 1}", "input.columns.age.nullable: found the number 1, expected true or false"),
        ("[1]", "input.columns.age: found a list, expected a mapping with the keys type, nullable"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_refused_in_its_own_words(
    complain_about: ComplainAbout, rule: str, problem: str
) -> None:
    require_complaint(complain_about(f"input: {{columns: {{age: {rule}}}}}"), problem)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("input: {}", "input: "),
        ("input: {baseline: 5}", "input.baseline: found 5, expected true, false or the path"),
        ("error_threshold: -1", "error_threshold: found -1, expected a number of rows, e.g. 10, or a share"),
        ("error_threshold: 101%", "error_threshold: found '101%'"),
        ("error_threshold: 2.5", "error_threshold: found 2.5"),
        ("error_threshold: few", "error_threshold: found 'few'"),
        ("output: {on_violation: impute}", "output.on_violation: found the text 'impute', expected one of"),
        ("quarantine: {mode: append}", "quarantine.mode: unknown key; "),
    ],
)
def test_other_parts_of_a_contract_complain_as_well(
    complain_about: ComplainAbout, line: str, problem: str
) -> None:
    require_complaint(complain_about(line), problem)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            "input: {columns: {id: {on_violation: impute, impute: 0}}}",
            "input.columns.id: a key identifies its row and cannot be imputed",
        ),
        (
            "input: {baseline: true}\nquarantine: {table: predictions}",
            "quarantine: this is the sink's own table",
        ),
    ],
)
def test_what_does_not_go_together_is_said(complain_about: ComplainAbout, lines: str, problem: str) -> None:
    (found,) = complain_about(lines)
    assert problem in found


def test_a_key_named_like_a_column_of_the_quarantine_is_refused_only_where_rows_can_be_rejected(
    load: Load,
) -> None:
    text = CHURN.replace("[id]", "[value]").replace("SELECT id", "SELECT value")
    assert load(text).broken == {}
    (problem,) = load(f"{text}    input: {{baseline: true}}\n").broken["churn"]
    assert (
        "'value' is a column of the quarantine table; rename it in the query: SELECT value AS value_key"
        in str(problem)
    )


def place(sink: SinkConfig) -> tuple[str, str, bool]:
    return sink.connection, sink.table, sink.create


def test_the_quarantine_is_beside_the_sink_unless_it_is_named(load: Load) -> None:
    sink = "table: 'scores.\"2026.churn\"', create: true"
    text = CHURN.replace("table: predictions", sink) + "    input: {baseline: contracts/churn.json}\n"
    model = load(text).config.models["churn"]
    assert place(model.quarantine_sink) == ("warehouse", 'scores."2026.churn_quarantine"', True)
    named = load(f"{text}    quarantine: {{connection: lake, table: bad, create: false}}\n").config.models[
        "churn"
    ]
    assert place(named.quarantine_sink) == ("lake", "bad", False)


def test_a_baseline_is_found_from_the_folder_of_the_configuration(load: Load, config_file: Path) -> None:
    for written, expected in (
        ("true", f"{config_file.parent}/churn.skops.baseline.json"),
        ("contracts/c.json", f"{config_file.parent}/contracts/c.json"),
        ("s3://models/c.json", "s3://models/c.json"),
    ):
        model = load(f"{CHURN}    input: {{baseline: {written}}}\n").config.models["churn"]
        assert model.input is not None
        assert model.input.baseline_uri(model.model.uri) == expected


def test_a_share_of_rows_is_rounded_down() -> None:
    assert rows_tolerated("2%", 149) == 2
    assert rows_tolerated("33.3 %", 10) == 3
    assert rows_tolerated("100%", 10**12) == 10**12
    assert rows_tolerated("0%", 10) == 0
    assert rows_tolerated(7, 3) == 7
