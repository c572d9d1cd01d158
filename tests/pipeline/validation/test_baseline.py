"""Baselines: what is written of rows, what the contract makes of it, and `mlops baseline`."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_plugin.cli import main
from mlops_plugin.config.schema import BASELINE_SUFFIX, ColumnContract
from mlops_plugin.errors import ContractError
from mlops_plugin.formats.runtime import artifact_sha256
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.staging.notes import put_note, read_note
from mlops_plugin.pipeline.staging.records import Predicted
from mlops_plugin.pipeline.validation.baseline import Baseline, make_baseline, read_baseline, write_baseline
from mlops_plugin.pipeline.validation.contract import Contract
from mlops_plugin.pipeline.validation.output_check import OutputCheck
from mlops_plugin.pipeline.validation.screening import Rules
from support.full_disk import no_file_beyond
from support.paused_steps import step
from support.random_examples import examples
from support.workshop import Workshop

Captured = pytest.CaptureFixture[str]


def made(table: pa.Table, *, chunk: int = 1000, classes: list[Any] | None = None) -> Baseline:
    return make_baseline(
        table.column_names,
        table.to_batches(max_chunksize=chunk),
        artifact_sha256="a" * 64,
        origin="a test",
        classes=classes,
    )


def test_it_says_type_range_missing_share_quantiles_and_categories() -> None:
    table = pa.table(
        {
            "age": pa.array([None, *range(1, 100)], pa.int32()),
            "weight": [float("nan"), *np.linspace(0, 1, 99)],
            "colour": ["red"] * 60 + ["blue"] * 40,
            "name": [f"n{number}" for number in range(101 - 1)],
            "is_new": [True, None] * 50,
            "born": [date(2020, 1, 1)] * 99 + [date(2021, 1, 1)],
        }
    )
    found = made(table, chunk=7).features
    assert (found["age"].type, found["age"].missing, found["age"].min, found["age"].max) == (
        "integer",
        1,
        1,
        99,
    )
    assert found["age"].quantiles is not None
    assert found["age"].quantiles["0.5"] == 50
    assert (found["weight"].type, found["weight"].missing, found["weight"].max) == ("number", 1, 1.0)
    assert found["colour"].categories == [("red", 60), ("blue", 40)]
    assert found["is_new"].categories == [(True, 50)]
    assert (found["born"].min, found["born"].max) == ("2020-01-01", "2021-01-01")
    assert found["name"].rows == 100


def test_a_text_with_too_many_values_has_no_categories() -> None:
    assert (
        made(pa.table({"name": [f"n{number}" for number in range(101)]})).features["name"].categories is None
    )


def test_quantiles_of_many_rows_are_those_of_a_sample() -> None:
    values = np.random.default_rng(1).permutation(500_000) / 500_000
    found = made(pa.table({"a": values}), chunk=50_000).features["a"]
    assert found.quantiles is not None
    assert found.quantiles["0.5"] == pytest.approx(0.5, abs=0.01)
    assert (found.min, found.max) == (values.min(), values.max())


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(allow_infinity=False)),
            st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
            st.one_of(st.none(), st.sampled_from(["x", "y", "z"])),
            st.booleans(),
            st.dates(),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_the_rows_that_a_baseline_was_made_of_keep_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]]
) -> None:
    kinds = [pa.float64(), pa.int64(), pa.string(), pa.bool_(), pa.date32()]
    columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
    table = pa.table(columns, names=list("abcde"))
    file = str(tmp_path_factory.getbasetemp() / "property.baseline.json")
    write_baseline(made(table, chunk=4), file)
    learned = read_baseline(file)
    rules = {name: ColumnContract.model_validate(one.rule()) for name, one in learned.features.items()}
    bound = Contract("churn", rules).bind(table.schema)
    for batch in table.to_batches():
        assert bound.check(batch).violations == []


def test_the_command_writes_beside_the_artifact_and_the_contract_keeps_to_it(
    workshop: Workshop, capsys: Captured
) -> None:
    workshop.add_model("churn", input={"baseline": True}, error_threshold=3)
    assert main(["baseline", "churn"]) == 0
    file = workshop.folder / "churn.skops.baseline.json"
    assert f"{file}: 3 features of 5 rows" in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert written["origin"].startswith("SELECT id, a, b, c")
    assert written["classes"] == ["leaves", "stays"]
    workshop.run(workshop.dispatch())
    assert len(workshop.predictions()) == 5
    workshop.in_source(
        "UPDATE customers SET a = 99 WHERE id = 1", "UPDATE customers SET b = NULL WHERE id = 2"
    )
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    assert workshop.record(dispatch.id).rows_rejected == 2


def test_another_query_can_be_the_origin_and_own_entries_win(workshop: Workshop) -> None:
    workshop.add_model(
        "churn", input={"baseline": "b.json", "columns": {"a": {"max": 1000, "nullable": True}}}
    )
    assert main(["baseline", "churn", "--query", "SELECT id, a, b, c FROM customers WHERE id < 3"]) == 0
    baseline = read_baseline(str(workshop.folder / "b.json"))
    assert baseline.rows == 2
    contract = Contract.of(workshop.model())
    assert contract is not None
    rule = contract.rules["a"]
    assert (rule.max, rule.nullable, rule.min) == (1000, True, baseline.features["a"].min)
    assert contract.rules["b"].max == baseline.features["b"].max
    assert contract.rules["b"].nullable is False


def test_an_own_entry_that_contradicts_the_baseline_is_said(workshop: Workshop) -> None:
    workshop.add_model("churn", input={"baseline": True})
    assert main(["baseline", "churn"]) == 0
    workshop.add_model("churn", input={"baseline": True, "columns": {"a": {"max": -1000}}})
    with pytest.raises(ContractError, match=r"columns\.a: .*\bmin .*\bmax"):
        workshop.run_steps(workshop.dispatch(), "collect")


def test_a_baseline_of_another_artifact_is_refused(workshop: Workshop) -> None:
    workshop.add_model("churn", input={"baseline": True})
    assert main(["baseline", "churn"]) == 0
    file = workshop.folder / "churn.skops.baseline.json"
    file.write_text(file.read_text().replace(workshop_sha(workshop), "f" * 64))
    with pytest.raises(ContractError, match=r"artifact .*mlops baseline churn"):
        workshop.run(workshop.dispatch())


def workshop_sha(workshop: Workshop) -> str:
    return artifact_sha256(str(workshop.folder / "churn.skops"))


_DAMAGED: list[dict[str, Any]] = [
    *({"quantiles": value} for value in ([1], "x", True, {"0.5": "x"}, {"0.5": 10**400})),
    *({"categories": value} for value in (5, "xy", [["t"]], {"ab": 1}, [["t", 1, 1]])),
    *({"type": "date", "min": value} for value in (0.5, "yesterday", [1])),
    *({"min": 10**400}, {"rows": None}, {"missing": "x"}, {"type": 5}),
]


def _baseline_with(**changed: Any) -> str:
    feature = {"type": "number", "rows": 5, "missing": 0, **changed}
    whole = {"artifact_sha256": "a", "made_at": "2026", "origin": "x", "rows": 5, "version": 1}
    return json.dumps({**whole, "features": {"a": feature}})


def test_an_undamaged_baseline_is_read(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(_baseline_with(quantiles={"0.5": 1}, categories=[["t", 1]]))
    assert read_baseline(str(tmp_path / "b.json")).features["a"].quantiles == {"0.5": 1.0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; make it with: mlops baseline MODEL"),
        ("{", "cannot be read"),
        ("[]", "is not a baseline of version 1"),
        ('{"version": 1}', "is incomplete"),
        ('{"version": 1, "features": {"a": {"x": 1}}}', "is incomplete"),
        *((_baseline_with(**change), "is incomplete or damaged") for change in _DAMAGED),
    ],
)
def test_a_damaged_baseline_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "b.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ContractError, match=message) as raised:
        read_baseline(str(file))
    assert str(file) in str(raised.value)


def test_a_baseline_keeps_the_rights_of_the_file_in_whose_place_it_comes(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    write_baseline(made(pa.table({"a": [1, 2]})), str(file))
    assert file.stat().st_mode & 0o777 == 0o644
    for mode in (0o600, 0o664):
        file.chmod(mode)
        write_baseline(made(pa.table({"a": [3, 4]})), str(file))
        assert file.stat().st_mode & 0o777 == mode


def test_a_query_without_a_feature_makes_no_baseline(workshop: Workshop, capsys: Captured) -> None:
    assert main(["baseline", "churn", "--query", "SELECT id, a FROM customers"]) == 1
    assert "lack 2 of the model's 3 features" in capsys.readouterr().err
    assert not (workshop.folder / "churn.skops.baseline.json").exists()


def test_a_class_that_the_baseline_does_not_have_is_refused(workshop: Workshop) -> None:
    workshop.add_model(
        "churn", input={"baseline": True}, output={"on_violation": "reject"}, error_threshold=5
    )
    assert main(["baseline", "churn"]) == 0
    file = workshop.folder / "churn.skops.baseline.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "classes": ["stays"]}))
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    assert {row["prediction"] for row in workshop.predictions()} == {"stays"}
    assert workshop.record(dispatch.id).rows_rejected == 5 - len(workshop.predictions())


def test_text_that_the_contract_reads_as_numbers_has_their_range(workshop: Workshop) -> None:
    workshop.add_model(
        "churn",
        source={"query": "SELECT id, CAST(a AS TEXT) AS a, b, c FROM customers"},
        input={"columns": {"a": {"type": "number"}}},
    )
    assert main(["baseline", "churn"]) == 0
    found = read_baseline(str(workshop.folder / "churn.skops.baseline.json")).features["a"]
    assert found.type == "number"
    assert found.min < found.max


def test_an_earlier_baseline_stays_if_the_disk_is_full(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_baseline(made(pa.table({"a": [1, 2]})), str(file))
    before = file.read_bytes()
    with no_file_beyond(100), pytest.raises(ContractError, match="cannot be written"):
        write_baseline(made(pa.table({"a": [3, 4]})), str(file))
    assert [(path, path.read_bytes()) for path in tmp_path.iterdir()] == [(file, before)]


def begin_partitions(workshop: Workshop, count: int) -> Dispatch:
    partitions = {"partitions": {"column": "id", "count": count}}
    workshop.add_model("churn", source=partitions, input={"baseline": True}, error_threshold=5)
    assert main(["baseline", "churn"]) == 0
    dispatch = workshop.dispatch()
    step(workshop, dispatch, "plan")
    for partition in range(count):
        step(workshop, dispatch, "collect", partition=partition)
    step(workshop, dispatch, "log")
    return dispatch


def test_partitions_are_put_together_with_one_that_an_earlier_version_predicted(workshop: Workshop) -> None:
    dispatch = begin_partitions(workshop, 2)
    for partition in range(2):
        step(workshop, dispatch, "infer", partition=partition)
    shelf = workshop.deployment.staging.shelf("churn", dispatch.id).of_partition(0)
    put_note(replace(read_note(Predicted, shelf), baseline_sha256=None), shelf)
    step(workshop, dispatch, "persist")
    assert len(workshop.predictions()) == 5


def test_baseline_that_is_made_again_of_the_same_rows_judges_the_same(workshop: Workshop) -> None:
    dispatch = begin_partitions(workshop, 2)
    step(workshop, dispatch, "infer", partition=0)
    uri = workshop.model().model.uri + BASELINE_SUFFIX
    write_baseline(replace(read_baseline(uri), made_at="2026-01-01T00:00:00+00:00", origin="again"), uri)
    step(workshop, dispatch, "infer", partition=1)
    step(workshop, dispatch, "persist")
    assert len(workshop.predictions()) == 5


def test_what_judges_rows_does_not_depend_on_the_order_of_categories() -> None:
    def judging(colours: list[str], classes: list[Any] | None) -> str | None:
        baseline = made(pa.table({"colour": colours}), classes=classes)
        return Rules(None, OutputCheck("churn", pa.schema([])), baseline).baseline_sha256

    assert judging(["red", "blue", "red"], [0, 1]) == judging(["blue", "red", "blue"], [1, 0])
    assert judging(["red", "blue"], None) != judging(["red", "green"], None)
    assert judging(["red"], None) != judging(["red"], [])
