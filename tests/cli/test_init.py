"""`mlops init` writes an entry that works, and `mlops models` lists what there is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mlops_plugin.cli import main
from mlops_plugin.cli.init import labels_of
from support.dialogue import Dialogue
from support.preloaded_python import MLOPS, PreloadedPython
from support.workshop import FEATURES, Workshop

# Each reads its artifact in a process of its own.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked_models")]

Ask = Callable[..., Dialogue]
Captured = pytest.CaptureFixture[str]
END = "\x04"  # Ctrl-D
QUERY = "SELECT id, a, b, c\nFROM customers"


def init(workshop: Workshop, file: Path, *more: str, query: str = QUERY) -> int:
    return main(["init", "--model", str(file), "--connection", "source", "--query", query, *more])


def test_the_entry_for_a_pinned_file_dispatches(workshop: Workshop, capsys: Captured) -> None:
    file = workshop.folder / "second.joblib"
    joblib.dump(workshop.classifier, file)
    assert init(workshop, file, "--sink", "sink", "--schedule", "@hourly", "--truth", "c") == 0
    model = workshop.model("second")
    assert model.model.format == "joblib"
    assert model.model.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert model.model._uri_as_written == "second.joblib"
    assert model.key == ("id",)
    assert model.source.query.strip() == QUERY
    assert (model.sink.connection, model.sink.table, model.sink.create) == (
        "sink",
        "second_predictions",
        True,
    )
    assert (str(model.schedule), model.showroom.truth) == ("@hourly", "c")
    assert model.input is not None
    assert {name: rule.nullable for name, rule in model.input.columns.items()} == dict.fromkeys("abc", False)
    assert main(["check", "--connect", "second"]) == 0
    assert main(["dispatch", "second"]) == 0
    assert len(workshop.predictions("second_predictions")) == 5


def test_types_of_a_skops_file_are_trusted_only_if_somebody_says_so(
    workshop: Workshop, capsys: Captured
) -> None:
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=list(FEATURES))
    file = workshop.folder / "trees.skops"
    skops.io.dump(HistGradientBoostingClassifier(max_iter=2).fit(rows, rows["a"] > 0), file)
    before = workshop.config_file.read_bytes()
    assert init(workshop, file) == 1
    printed = capsys.readouterr()
    named = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
    assert named in printed.out
    assert "--trust" in printed.err
    assert workshop.config_file.read_bytes() == before
    assert init(workshop, file, "--trust") == 0
    assert workshop.model("trees").model.trusted == (named,)


def test_missing_values_and_categories_are_in_the_contract(workshop: Workshop) -> None:
    rows = pd.DataFrame({"b": [1.0, None, 3.0, 4.0], "kind": ["x", "y", "no", "x"]})
    steps = ColumnTransformer(
        [("n", SimpleImputer(), ["b"]), ("k", OneHotEncoder(handle_unknown="ignore"), ["kind"])]
    )
    file = workshop.folder / "mixed.skops"
    skops.io.dump(make_pipeline(steps, LogisticRegression()).fit(rows, [0, 1, 0, 1]), file)
    query = (
        "SELECT id AS customer_id, NULLIF(b, b * (id = 2)) AS b, CASE id WHEN 1 THEN 'no' "
        "ELSE 'x' END AS kind FROM customers"
    )
    assert init(workshop, file, "--trust", query=query) == 0
    model = workshop.model("mixed")
    assert model.key == ("customer_id",)
    assert model.input is not None
    rules = model.input.columns
    assert rules["b"].nullable is None
    assert (rules["kind"].nullable, set(rules["kind"].allowed or ())) == (False, {"no", "x"})
    assert main(["dispatch", "mixed", "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("more", "query", "says"),
    [
        ((), "SELECT id, a, b FROM customers", "'c'"),
        ((), "SELECT a, b, c FROM customers", "--key"),
        ((), "SELECT a, b, c, 1 AS one FROM customers", "more than once"),
        ((), "SELECT a, b, c, NULL AS id FROM customers", "NULL"),
        (("--key", "nr"), QUERY, "'nr'"),
        (("--truth", "nr"), QUERY, "'nr'"),
        ((), "DELETE FROM customers", "must be a SELECT"),
        ((), "SELECT id, a, b, c FROM nowhere", "nowhere"),
        (("--connection", "nobody"), QUERY, "AIRFLOW_CONN_NOBODY"),
        (("--schedule", "often"), QUERY, "models.fresh.schedule"),
        (("--model", "gone.skops"), QUERY, "gone.skops"),
        (("--model", "config.yaml"), QUERY, "config.yaml"),
        (("churn",), QUERY, "'churn'"),
    ],
)
def test_what_would_not_work_is_not_written(
    workshop: Workshop,
    capsys: Captured,
    more: tuple[str, ...],
    query: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(workshop.folder)
    file = workshop.folder / "fresh.skops"
    skops.io.dump(workshop.classifier, file)
    before = sorted((path, path.read_bytes()) for path in workshop.folder.glob("*.yaml*"))
    name = () if more and not more[0].startswith("-") else ("fresh",)
    assert init(workshop, file, *name, *more, query=query) == 1
    assert says in capsys.readouterr().err
    assert sorted((path, path.read_bytes()) for path in workshop.folder.glob("*.yaml*")) == before


def test_a_model_without_names_gets_its_features(workshop: Workshop, capsys: Captured) -> None:
    file = workshop.folder / "bare.joblib"
    rows = np.random.default_rng(0).normal(size=(60, 3))
    joblib.dump(LogisticRegression().fit(rows, rows[:, 0] > 0), file)
    assert init(workshop, file) == 1
    assert "features" in capsys.readouterr().err
    assert init(workshop, file, "--features", "a, b,c") == 0
    assert workshop.model("bare").features == ("a", "b", "c")


def test_the_file_is_loaded_in_a_process_of_its_own(workshop: Workshop) -> None:
    file = workshop.folder / "spy.joblib"
    seen = workshop.folder / "seen"
    code = (
        "import joblib, sys\n"
        "class Spy:\n"
        "    def __reduce__(self):\n"
        '        return (exec, (f\'open({sys.argv[2]!r}, "w").write("x")\',))\n'
        "joblib.dump(Spy(), sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", code, str(file), str(seen)], check=True)
    assert init(workshop, file) == 1
    assert not seen.exists()
    assert "spy" not in workshop.loaded.config.models


def test_a_missing_answer_is_named_where_nobody_can_be_asked(
    workshop: Workshop, preloaded: PreloadedPython
) -> None:
    words = ("init", "fresh", "--model", "churn.skops")
    done = preloaded.run(MLOPS, *words, cwd=workshop.folder, env=os.environ)
    assert done.returncode == 1
    assert "--connection" in done.stderr


def test_models_are_listed_with_their_last_dispatch(workshop: Workshop, capsys: Captured) -> None:
    workshop.add_model("hourly", schedule="@hourly")
    workshop.add_model("ill", retries=-1)
    workshop.run(workshop.dispatch())
    capsys.readouterr()
    assert main(["models", "--output", "json"]) == 0
    listed = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(listed) == ["churn", "hourly", "ill"]
    assert (listed["churn"]["last_dispatch"], listed["churn"]["rows"]) == ("succeeded", 5)
    assert (listed["hourly"]["schedule"], listed["hourly"]["last_dispatch"]) == ("@hourly", None)
    assert listed["ill"]["health"] == "broken configuration"
    assert "models.ill.retries" in listed["ill"]["why"]
    assert {row["paused"] for row in listed.values()} == {None}  # there is no Airflow to ask
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "model",
        "|",
        "paused",
        "|",
        "schedule",
        "|",
        "last_dispatch",
        "|",
        "started",
        "|",
        "rows",
        "|",
        "health",
    ]
    assert lines[2].startswith("churn  | -      | -        | succeeded     | ")


def test_models_are_listed_without_an_event_store(workshop: Workshop, capsys: Captured) -> None:
    (workshop.folder / "events.db").unlink()
    capsys.readouterr()
    assert main(["models"]) == 0
    assert "last dispatches are not known" in capsys.readouterr().out


@pytest.fixture
def ask_me(workshop: Workshop, preloaded: PreloadedPython) -> Ask:
    """Start `mlops init` at a terminal of its own."""

    def ask(*more: str) -> Dialogue:
        def start(terminal: int) -> Callable[[float], int]:
            words, files = ("init", *more), [terminal] * 3
            return preloaded.start(MLOPS, words, cwd=workshop.folder, env=os.environ, files=files).wait

        return Dialogue(start)

    return ask


def ask_me_in_a_new_python(workshop: Workshop) -> Dialogue:
    """Start it in a Python that has loaded nothing yet."""
    plugins = str(Path(__file__).parents[2] / "plugins")

    def start(terminal: int) -> Callable[[float], int]:
        return subprocess.Popen(
            [sys.executable, "-m", "mlops_plugin.cli", "init"],
            cwd=workshop.folder,
            env={**os.environ, "PYTHONPATH": plugins},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        ).wait

    return Dialogue(start)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("0,1", (0, 1)),
        ("+1,-1", (1, -1)),
        ("0.5,1", (0.5, 1.0)),
        (".5,1.", (0.5, 1.0)),
        ("true,False", (True, False)),
        ("001,010", ("001", "010")),
        ("1,leaves", ("1", "leaves")),
        ("nan,1", ("nan", "1")),
    ],
)
def test_labels_are_of_the_type_that_yaml_would_give_them(text: str, labels: tuple[object, ...]) -> None:
    found = labels_of(text)
    assert found == labels
    assert [*map(type, found or ())] == [*map(type, labels)]


def test_what_the_options_leave_open_is_asked(workshop: Workshop) -> None:
    before = workshop.loaded.config.models
    asked = ask_me_in_a_new_python(workshop)
    asked.answer("Model file: ", "churn.skops")
    asked.answer("Name of the model [churn]: ", "fresh")
    asked.answer("Airflow connection of the rows: ", "source")
    asked.answer("Query that returns them (one SELECT): ", "SELECT id, a, b, c FROM customers")
    asked.answer("Write this into config.yaml? [Y/n] ", "")
    assert asked.end() == 0, asked.text
    assert "fresh: 3 features, key id, 5 rows" in asked.text
    model = workshop.model("fresh")
    assert (model.source.connection, model.sink.table) == ("source", "fresh_predictions")
    assert workshop.loaded.config.models == {**before, "fresh": model}
    assert main(["dispatch", "fresh"]) == 0


def test_a_default_is_taken_for_an_empty_answer_and_options_are_not_asked(
    workshop: Workshop, ask_me: Ask
) -> None:
    (workshop.folder / "churn.skops").rename(workshop.folder / "fraud.v2.skops")
    query = "SELECT id, a, b, c FROM customers"
    asked = ask_me("--model", "fraud.v2.skops", "--query", query)
    asked.answer("Name of the model [fraud]: ", "")
    asked.answer("Airflow connection of the rows: ", "  source ")
    asked.answer("Write this into config.yaml? [Y/n] ", "yes")
    assert asked.end() == 0, asked.text
    assert "Query that returns them" not in asked.text
    assert workshop.model("fraud").model._uri_as_written == "fraud.v2.skops"


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([("Model file: ", "")], "Model file: nothing was answered"),
        ([("Model file: ", "churn.skops"), ("Name of the model", "churn")], "a model 'churn' already"),
        (
            [
                ("Model file: ", "churn.skops"),
                ("Name of the model", "fresh"),
                ("Airflow connection", "source"),
                ("Query", "SELECT id, a, b, c FROM customers"),
                ("Write this", "n"),
            ],
            "nothing was written",
        ),
        ([("Model file: ", "churn.skops"), ("Name of the model", END)], "the input ended"),
        (
            [
                ("Model file: ", "churn.skops"),
                ("Name of the model", "fresh"),
                ("Airflow connection", "source"),
                ("Query", "SELECT id, a, b, c FROM customers"),
                ("Write this", END),
            ],
            "the input ended",
        ),
    ],
    ids=["empty", "taken", "no", "end of input", "end of input at the last question"],
)
def test_a_dialogue_that_ends_early_writes_nothing(
    workshop: Workshop, ask_me: Ask, answers: list[tuple[str, str]], says: str
) -> None:
    before = workshop.config_file.read_bytes()
    asked = ask_me()
    for question, answer in answers:
        asked.answer(question, answer)
    assert asked.end() == 1
    assert says in asked.text
    assert "Traceback" not in asked.text
    assert workshop.config_file.read_bytes() == before


@pytest.mark.parametrize(("answer", "status"), [("", 1), ("n", 1), ("y", 0)])
def test_types_are_trusted_only_if_the_answer_is_yes(
    workshop: Workshop, ask_me: Ask, answer: str, status: int
) -> None:
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=list(FEATURES))
    file = workshop.folder / "trees.skops"
    skops.io.dump(HistGradientBoostingClassifier(max_iter=2).fit(rows, rows["a"] > 0), file)
    asked = ask_me("trees", "--model", file.name, "--connection", "source", "--query", QUERY)
    asked.answer("Do you trust them? [y/N] ", answer)
    if not status:
        asked.answer("Write this into config.yaml? [Y/n] ", "y")
    assert asked.end() == status, asked.text
    assert ("trees" in workshop.loaded.config.models) == (not status)
