"""`mlops check --connect` of several models: each is looked at, and what its signature has to say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mlops_plugin.cli import main
from mlops_plugin.formats.signature.signature_writer import write_signature
from support import shop_code
from support.workshop import FEATURES, Workshop

# Each loads its models in processes of their own.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked_models")]

Captured = pytest.CaptureFixture[str]


class Failing:
    """Raises at the first question, whatever it is."""

    n_features_in_ = 3

    def predict(self, rows: Any) -> Any:
        raise ModuleNotFoundError(f"a library of its own, for {len(rows)} rows")


class Unprintable:
    """Cannot even be looked at."""

    def predict(self, rows: Any) -> Any:
        return np.ones(len(rows))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(f"no {name}")


class Sampling:
    n_features_in_ = 3

    def predict(self, rows: Any) -> Any:
        return np.random.default_rng().normal(size=len(rows))


def add_joblib(workshop: Workshop, name: str, model: Any, **changes: Any) -> Path:
    file = workshop.folder / f"{name}.joblib"
    joblib.dump(model, file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    artifact = {"format": "joblib", "uri": file.name, "sha256": sha256}
    workshop.add_model(name, model=artifact, features=list(FEATURES), **changes)
    return file


def training_rows() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(1).normal(size=(80, 3)), columns=list(FEATURES))


def sign(workshop: Workshop) -> Path:
    write_signature(workshop.classifier, training_rows(), workshop.folder / "churn.skops")
    return workshop.folder / "churn.skops.signature.json"


@pytest.mark.parametrize("model", [Failing(), Unprintable()])
def test_a_model_that_raises_hides_no_other(workshop: Workshop, capsys: Captured, model: Any) -> None:
    workshop.models.clear()
    add_joblib(workshop, "first", model)
    workshop.add_model("second", source={"query": "SELECT id, a, b, c FROM nowhere"})
    main(["check", "--connect"])
    printed = capsys.readouterr()
    assert "models.first.source" in printed.out
    assert "WRONG models.second.source" in printed.out
    assert "Traceback" not in printed.out + printed.err
    assert printed.err == ""


def test_a_refused_query_is_one_problem_of_a_model_that_is_not_ok(
    workshop: Workshop, capsys: Captured
) -> None:
    source = {"query": "SELECT id, a, b, c FROM customers LIMIT 2", "cursor": {"column": "id"}}
    workshop.add_model("second", source=source)
    assert main(["check", "--connect"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("LIMIT 2") == 1
    assert "1 of 2 models OK; 1 problem\n" in printed


def test_a_model_without_a_signature_gets_one_line_of_advice(workshop: Workshop, capsys: Captured) -> None:
    assert main(["check", "--connect"]) == 0
    assert capsys.readouterr().out.count("mlops sign churn") == 1


def test_a_signed_model_is_asked_its_golden_rows(workshop: Workshop, capsys: Captured) -> None:
    sign(workshop)
    assert main(["check", "--connect"]) == 0
    printed = capsys.readouterr().out
    assert "ok    models.churn.signature: the answers to 50 golden rows" in printed
    assert "note" not in printed


def test_another_answer_than_in_training_is_a_problem(workshop: Workshop, capsys: Captured) -> None:
    file = sign(workshop)
    content = json.loads(file.read_text())
    then = content["golden"]["answers"]["predict"][6][0]
    other = "stays" if then == "leaves" else "leaves"
    content["golden"]["answers"]["predict"][6][0] = other
    file.write_text(json.dumps(content))
    assert main(["check", "--connect"]) == 1
    printed = capsys.readouterr().out
    assert "WRONG models.churn.signature" in printed
    assert f"golden row 7, column 'prediction': expected '{other}', found '{then}'" in printed


def test_the_least_difference_counts_with_tolerance_0(workshop: Workshop, capsys: Captured) -> None:
    file = sign(workshop)
    content = json.loads(file.read_text())
    first = content["golden"]["answers"]["predict_proba"][0]
    first[0] = float(np.nextafter(first[0], 2))
    file.write_text(json.dumps(content))
    assert main(["check", "--connect"]) == 0
    workshop.add_model("churn", model={"format": "skops", "uri": "churn.skops", "tolerance": 0})
    assert main(["check", "--connect"]) == 1
    assert "golden row 1, column 'probability_" in capsys.readouterr().out


def test_answers_that_are_not_compared_are_said(workshop: Workshop, capsys: Captured) -> None:
    file = add_joblib(workshop, "sampling", Sampling())
    write_signature(Sampling(), training_rows().to_numpy(), file, names=FEATURES)
    assert main(["check", "--connect", "sampling"]) == 0
    printed = capsys.readouterr().out
    assert "prediction is not compared for any golden row: another answer each time" in printed


def test_libraries_of_training_that_are_others_are_said(workshop: Workshop, capsys: Captured) -> None:
    file = sign(workshop)
    content = json.loads(file.read_text())
    content["libraries"]["sklearn"] = "1.0.2"
    file.write_text(json.dumps(content))
    assert main(["check", "--connect"]) == 0
    assert "scikit-learn 1.0.2, here " in capsys.readouterr().out


def test_a_column_of_another_kind_than_in_training_is_a_problem(workshop: Workshop, capsys: Captured) -> None:
    sign(workshop)
    query = "SELECT id, a, b, CAST(c AS TEXT) AS c FROM customers"
    workshop.add_model("churn", source={"query": query})
    assert main(["check", "--connect"]) == 1
    printed = capsys.readouterr().out
    assert "WRONG models.churn.features" in printed
    assert "column 'c': found string, but the model was trained on number" in printed


def test_check_writes_nothing(workshop: Workshop) -> None:
    sign(workshop)
    before = {path: path.read_bytes() for path in workshop.folder.rglob("*") if path.is_file()}
    main(["check", "--connect"])
    after = {path: path.read_bytes() for path in workshop.folder.rglob("*") if path.is_file()}
    assert {path.name for path in after} - {path.name for path in before} <= {"airflow.cfg"}
    assert all(after[path] == before[path] for path in before if path.suffix != ".cfg")


def line_of(workshop: Workshop, text: str) -> int:
    lines = workshop.config_file.read_text().split("\n")
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_a_problem_of_connect_has_file_and_line(workshop: Workshop, capsys: Captured) -> None:
    workshop.add_model("churn", source={"query": "SELECT id, a, b FROM customers"})
    workshop.add_model("other", model={"format": "skops", "uri": "gone.skops"}, sink={"create": False})
    assert main(["check", "--connect"]) == 1
    printed = capsys.readouterr().out
    of_features = line_of(workshop, "query: SELECT id, a, b FROM customers")
    of_model = line_of(workshop, "uri: gone.skops") - 2
    assert workshop.config_file.read_text().split("\n")[of_model - 1] == "    model:"
    for line in (of_features, of_model):
        assert f"      {workshop.config_file}:{line}: " in printed, (line, printed)


@pytest.mark.parametrize(
    ("showroom", "key", "near"),
    [
        ({"truth": "label_", "cases": "SELECT *, 1 AS label FROM customers"}, "truth", "label"),
        ({"search": ["id", "idx"]}, "search", "id"),
        ({"cases": "SELECT id FROM nowhere"}, "cases", "FROM nowhere"),
        ({"cases": "SELECT a FROM customers", "truth": "a"}, "cases", "no key column id"),
    ],
)
def test_a_column_that_the_showroom_lacks_is_found(
    workshop: Workshop, capsys: Captured, showroom: dict[str, object], key: str, near: str
) -> None:
    workshop.add_model("churn", showroom=showroom)
    assert main(["check", "--connect"]) == 1
    printed = capsys.readouterr().out
    assert f"WRONG models.churn.showroom.{key}" in printed
    assert f"{workshop.config_file}:{line_of(workshop, f'    {key}:')}: " in printed
    assert near in printed
    assert "0 of 1 models OK; 1 problem\n" in printed


def test_a_showroom_that_names_columns_of_its_cases_is_ok(workshop: Workshop, capsys: Captured) -> None:
    workshop.add_model("churn", showroom={"truth": "a", "search": ["id", "b"]})
    assert main(["check", "--connect"]) == 0
    assert "ok    models.churn.showroom: the cases" in capsys.readouterr().out


def test_predictions_that_no_model_makes_start_no_model(workshop: Workshop, capsys: Captured) -> None:
    workshop.add_model("second", schedule=["chrun.predictions"])
    workshop.add_model("third", schedule=["churn.predictions", "second.predictions", "lake"])
    assert main(["check"]) == 1
    printed = capsys.readouterr().out
    assert f"{workshop.config_file}:{line_of(workshop, '    schedule:')}: models.second.schedule: " in printed
    assert "did you mean 'churn'?" in printed
    assert "2 of 3 models OK; 1 problem\n" in printed


def test_findings_of_an_unusable_file_are_on_standard_output(workshop: Workshop, capsys: Captured) -> None:
    workshop.config_file.write_text("models: [")
    assert main(["check"]) == 1
    printed = capsys.readouterr()
    assert f"{workshop.config_file}:" in printed.out
    assert "1 problem\n" in printed.out
    assert printed.err == ""


def test_text_among_numbers_is_shown_with_its_key_and_a_fix_that_works(
    workshop: Workshop, capsys: Captured
) -> None:
    workshop.in_source("UPDATE customers SET b = 'n/a' WHERE id = 4")
    assert main(["check", "--connect"]) == 1
    printed = capsys.readouterr().out
    assert "'n/a', first at id 4" in printed
    assert 'CAST("b" AS REAL)' not in printed  # it would make 0 of 'n/a'
    fixed = 'NULLIF("b", \'n/a\') AS "b"'
    assert fixed in printed
    workshop.add_model(
        "churn",
        source={"query": f"SELECT id, a, {fixed}, c FROM customers"},
        input={"columns": {"b": {"nullable": False}}},
        error_threshold=1,
    )
    assert main(["check", "--connect"]) == 0
    assert main(["dispatch", "churn"]) == 0
    assert "1 row: 'b' missing, e.g. NULL of key 4\n" in capsys.readouterr().out


def test_numbers_written_as_text_keep_the_offer_of_a_cast(workshop: Workshop, capsys: Captured) -> None:
    query = "SELECT id, a, CASE id WHEN 2 THEN ' 3.5e0 ' ELSE b END AS b, c FROM customers"
    workshop.add_model("churn", source={"query": query})
    assert main(["check", "--connect"]) == 1
    assert 'write CAST("b" AS REAL) AS "b"' in capsys.readouterr().out


def test_another_asset_is_a_note_if_airflow_knows_nobody_who_updates_it(
    workshop: Workshop, capsys: Captured
) -> None:
    workshop.add_model("churn", schedule=["lake"])
    assert main(["check", "--connect"]) == 0
    assert "lake" not in capsys.readouterr().out  # there is no Airflow to ask


@pytest.mark.parametrize("rows", ["(1, NULL), (2, 3), (3, 20)", None])
def test_input_that_nothing_tells_is_found_in_the_first_rows(
    workshop: Workshop, capsys: Captured, rows: str | None
) -> None:
    workshop.in_source("CREATE TABLE shops (id INTEGER, store INTEGER)")
    if rows:
        workshop.in_source(f"INSERT INTO shops VALUES {rows}")
    train = pd.DataFrame({"store": [1.0, 20.0, np.nan] * 20})
    steps = [FunctionTransformer(shop_code.as_texts), FunctionTransformer(shop_code.text_lengths)]
    model = make_pipeline(*steps, LinearRegression()).fit(train, np.arange(60))
    workshop.models.clear()
    add_joblib(workshop, "shops", model, source={"query": "SELECT id, store FROM shops"})
    entry = workshop.models["shops"] | {"features": None}
    workshop.add_model("shops", **entry)
    assert main(["check", "--connect"]) == (1 if rows else 0)
    assert ("dtypes: {store: integer}" in capsys.readouterr().out) == bool(rows)
    workshop.add_model("shops", **entry | {"model": entry["model"] | {"dtypes": {"store": "number"}}})
    assert main(["check", "--connect"]) == 0


def test_findings_in_an_included_file_are_placed_there(workshop: Workshop, capsys: Captured) -> None:
    entries = {
        "wine": workshop.models["churn"]
        | {"source": {"connection": "source", "query": "SELECT a FROM nowhere"}},
        "unfed": workshop.models["churn"] | {"schedule": ["nobody.predictions"]},
    }
    for name, entry in entries.items():
        entry["sink"] = {"connection": "sink", "table": name}
    (workshop.folder / "team.yaml").write_text(yaml.safe_dump({"models": entries}, sort_keys=False))
    workshop.sections["include"] = ["team.yaml"]
    workshop.write()
    assert main(["check", "--connect"]) == 1
    printed = capsys.readouterr().out
    assert f"{workshop.folder}/team.yaml:8: connection 'source'" in printed
    assert f"{workshop.folder}/team.yaml:10: SELECT a FROM nowhere" in printed
    assert f"{workshop.folder}/team.yaml:25: models.unfed.schedule" in printed
    assert "1 of 3 models OK" in printed


def test_a_broken_included_file_is_one_problem_and_hides_no_other(
    workshop: Workshop, capsys: Captured
) -> None:
    names = ("wine", "beer")
    entries = {
        name: workshop.models["churn"] | {"sink": {"connection": "sink", "table": name}} for name in names
    }
    (workshop.folder / "team.yaml").write_text(yaml.safe_dump({"events": {}, "models": entries}))
    workshop.add_model("after", schedule=["unknown.predictions"])
    workshop.sections["include"] = ["team.yaml"]
    workshop.write()
    assert main(["check"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{workshop.folder}/team.yaml:1: events: ")
    assert printed[1:] == [f"{workshop.config_file}: 2 of 4 models OK; 1 problem"]
    assert main(["check", "churn"]) == 0
    assert main(["check", "wine"]) == 1
    assert main(["dispatch", "churn"]) == 0
    assert main(["models"]) == 0
    assert "team.yaml:1: events" in capsys.readouterr().out


def test_models_that_wait_for_each_other_are_a_problem_of_each(workshop: Workshop, capsys: Captured) -> None:
    waits = {"churn": ["c"], "b": ["churn"], "c": ["b", "z"], "z": [], "behind": ["churn"], "own": ["behind"]}
    for name, producers in waits.items():
        schedule = [f"{producer}.predictions" for producer in producers] or "@hourly"
        workshop.add_model(name, schedule=schedule)
    assert main(["check"]) == 1
    printed = capsys.readouterr().out.splitlines()
    found = [line.partition("(")[2].partition(")")[0] for line in printed[:-1]]
    assert found == ["churn -> c -> b -> churn", "b -> churn -> c -> b", "c -> b -> churn -> c"]
    assert [line.partition(": ")[2].partition(":")[0] for line in printed[:-1]] == [
        "models.churn.schedule",
        "models.b.schedule",
        "models.c.schedule",
    ]
    assert printed[-1].endswith("3 of 6 models OK; 3 problems")
