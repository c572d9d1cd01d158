"""A function or class of the deployment's own: what it is given, may answer, and its package's hash."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.cli import main
from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.errors import ArtifactChanged, ArtifactError, FeatureError, MlopsError
from mlops_plugin.formats.artifact import sha256_of
from mlops_plugin.formats.runtime import Runtime, load_runtime
from mlops_plugin.workers.isolation import StepModels
from mlops_plugin.workers.process import ModelProcess
from support.workshop import Workshop

RULES = """
import csv
from pathlib import Path

from .limits import LIMIT

LABELS = dict(csv.reader(Path(__file__).with_name("labels.csv").read_text().splitlines()))


def score(rows):
    return [LABELS["high" if value > LIMIT else "low"] for value in rows["a"]]


class Rule:
    classes_ = ["no", "yes"]
    _estimator_type = "classifier"

    def predict(self, rows):
        return ["yes" if value > LIMIT else "no" for value in rows["a"]]

    def predict_proba(self, rows):
        return [[0.25, 0.75] if value > LIMIT else [1.0, 0.0] for value in rows["a"]]
"""
ROWS = pa.RecordBatch.from_pydict(
    {"a": [3, 1, None, 2], "b": [0.5, None, 2.5, 1.0], "t": ["x", None, "z", "ä"]},
)


def write_package(folder: Path, name: str = "house_rules", limit: float = 0) -> Path:
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "churn.py").write_text(RULES)
    (package / "limits.py").write_text(f"LIMIT = {limit}\n")
    (package / "labels.csv").write_text("high,leaves\nlow,stays\n")
    return package


def rule(
    folder: Path,
    source: str,
    *,
    container: Any = None,
    features: tuple[str, ...] = ("a", "b", "t"),
    **more: Any,
) -> Runtime:
    """A model that is one module with a function `f`; each has a name of its own."""
    module = f"rule_{hashlib.sha256(str((folder, source, container)).encode()).hexdigest()[:12]}"
    (folder / f"{module}.py").write_text(source)
    artifact = ArtifactConfig(format="python", uri=f"{folder}/{module}:f", container=container, **more)
    return load_runtime(artifact, features=features)


@pytest.mark.slow
def test_a_rule_is_checked_signed_and_dispatched_confined_with_its_packages_hash(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    write_package(workshop.folder)
    workshop.add_model(
        "churn", model={"format": "python", "uri": "house_rules.churn:Rule"}, features=["a", "b", "c"]
    )
    assert main(["sign", "churn"]) == 0
    assert main(["check", "--connect", "churn"]) == 0
    assert "the model runs in a process without files" in capsys.readouterr().out
    assert main(["dispatch", "churn"]) == 0
    values = dict(workshop.in_source("SELECT id, a FROM customers"))
    found = workshop.predictions()
    assert len(found) == len(values) == 5
    for row in found:
        is_high = values[row["id"]] > 0
        assert row["prediction"] == ("yes" if is_high else "no")
        assert (row["probability_no"], row["probability_yes"]) == ((0.25, 0.75) if is_high else (1, 0))
    assert {row["artifact_sha256"] for row in found} == {sha256_of(workshop.model().model)}


@pytest.mark.slow
def test_code_is_found_beside_the_configuration_or_where_python_finds_modules(
    workshop: Workshop, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("plugins")
    write_package(elsewhere, "plugged_rules")
    monkeypatch.syspath_prepend(str(elsewhere))
    workshop.add_model(
        "churn", model={"format": "python", "uri": "plugged_rules.churn:score"}, features=["a"]
    )
    workshop.run(workshop.dispatch())
    assert {row["prediction"] for row in workshop.predictions()} <= {"leaves", "stays"}
    (workshop.folder / "rules").mkdir()
    write_package(workshop.folder / "rules", "plugged_rules", limit=1000)
    workshop.add_model(
        "churn", model={"format": "python", "uri": "rules/plugged_rules.churn:score"}, features=["a"]
    )
    workshop.run(workshop.dispatch())
    assert {row["prediction"] for row in workshop.predictions()} == {"stays"}


def test_the_hash_is_what_sha256sum_prints_of_the_packages_files(tmp_path: Path) -> None:
    package = write_package(tmp_path)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "churn.cpython-311.pyc").write_bytes(b"stale")
    (package / ".hidden").write_text("x")
    (package / "äb").mkdir()
    (package / "äb" / "Z.txt").write_text("x")
    (package / "B.py").write_text("")
    find = r"find house_rules -type f -not -path '*/__pycache__/*' -not -path '*/.*' -print0"
    command = f"{find} | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    printed = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    artifact = ArtifactConfig(format="python", uri=f"{tmp_path}/house_rules.churn:score")
    assert sha256_of(artifact) == printed.stdout.split()[0]
    alone = ArtifactConfig(format="python", uri=f"{package}/limits:LIMIT")
    assert sha256_of(alone) == hashlib.sha256((package / "limits.py").read_bytes()).hexdigest()


@pytest.mark.parametrize("changed", ["limits.py", "labels.csv", "new.py"])
def test_a_change_of_any_file_of_the_package_is_another_model(changed: str, tmp_path: Path) -> None:
    package = write_package(tmp_path)
    artifact = ArtifactConfig(format="python", uri=f"{tmp_path}/house_rules.churn:score")
    pinned = artifact.model_copy(update={"sha256": sha256_of(artifact)})
    (package / changed).write_text("LIMIT = 1\n")
    assert sha256_of(artifact) != pinned.sha256
    with pytest.raises(ArtifactChanged, match=sha256_of(artifact)):
        load_runtime(pinned, features=("a",))


def test_what_runs_is_what_was_hashed_not_bytecode_that_python_has_kept(tmp_path: Path) -> None:
    source = tmp_path / "kept_rules.py"
    source.write_text("def f(rows): return [1.0] * len(rows)\n")
    os.utime(source, (1_700_000_000, 1_700_000_000))
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(source)], check=True)
    source.write_text("def f(rows): return [2.0] * len(rows)\n")
    os.utime(source, (1_700_000_000, 1_700_000_000))
    artifact = ArtifactConfig(format="python", uri=f"{tmp_path}/kept_rules:f")
    assert answers(load_runtime(artifact, features=("a",))) == [2.0] * 4
    source.write_text("def f(rows): return [3.0] * len(rows)\n")  # a process that goes on
    runtime = load_runtime(artifact, features=("a",))
    assert answers(runtime) == [3.0] * 4
    assert runtime.artifact_sha256 == sha256_of(artifact)


def answers(runtime: Runtime, rows: pa.RecordBatch = ROWS) -> list[Any]:
    return [*runtime.predict(rows).column("prediction").to_pylist()]


@pytest.mark.parametrize(
    ("container", "kind"),
    [
        (None, "pandas.core.frame.DataFrame"),
        ("frame", "pandas.core.frame.DataFrame"),
        ("polars", "polars.dataframe.frame.DataFrame"),
        ("arrow", "pyarrow.lib.Table"),
        ("matrix", "numpy.ndarray"),
    ],
)
def test_code_is_given_the_table_that_the_configuration_says(
    container: Any, kind: str, tmp_path: Path
) -> None:
    source = (
        "def f(rows):\n    kind = type(rows)\n"
        "    return [f'{kind.__module__}.{kind.__qualname__}'] * len(rows)\n"
    )
    found = answers(rule(tmp_path, source, container=container))
    assert [each.replace("pandas.DataFrame", "pandas.core.frame.DataFrame") for each in found] == [kind] * 4


@pytest.mark.parametrize("container", ["polars", "arrow"])
def test_null_stays_null_in_columns_of_every_type(container: str, tmp_path: Path) -> None:
    listed = "rows.to_dicts()" if container == "polars" else "rows.to_pylist()"
    source = f"def f(rows):\n    return [repr(list(row.values())) for row in {listed}]\n"
    assert answers(rule(tmp_path, source, container=container)) == [
        "[3, 0.5, 'x']",
        "[1, None, None]",
        "[None, 2.5, 'z']",
        "[2, 1.0, 'ä']",
    ]


@pytest.mark.parametrize(
    ("container", "area"),
    [
        ("frame", "rows['w'] * rows['h']"),
        ("polars", "rows['w'] * rows['h']"),
        ("arrow", "__import__('pyarrow.compute').compute.multiply(rows['w'], rows['h'])"),
    ],
)
@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.uint32()], ids=str)
def test_narrow_integers_do_not_overflow(
    container: str, area: str, kind: pa.DataType, tmp_path: Path
) -> None:
    loaded = rule(tmp_path, f"def f(rows):\n    return {area}\n", features=("w", "h"), container=container)
    rows = pa.RecordBatch.from_arrays([pa.array([50_000, 3], kind)] * 2, names=["w", "h"])
    assert answers(loaded, rows) == [2_500_000_000, 9]


@pytest.mark.parametrize(
    "answer",
    [
        "rows['a'].fillna(0) * 2",
        "(rows['a'].fillna(0) * 2).to_numpy()",
        "(rows['a'].fillna(0) * 2).tolist()",
        "rows[['a']].fillna(0) * 2",
        "__import__('polars').Series(rows['a'].fillna(0) * 2)",
        "__import__('pyarrow').array(rows['a'].fillna(0) * 2)",
    ],
)
def test_an_answer_may_be_a_column_of_any_library(answer: str, tmp_path: Path) -> None:
    assert answers(rule(tmp_path, f"def f(rows):\n    return {answer}\n")) == [6.0, 2.0, 0.0, 4.0]


def test_several_columns_are_several_predictions(tmp_path: Path) -> None:
    source = "def f(rows):\n    return rows.select(['a', 't']).fill_null(7).fill_null('none')\n"
    found = rule(tmp_path, source, container="polars").predict(ROWS).to_pylist()
    assert [list(row.values()) for row in found][:2] == [[3.0, "x"], [1.0, "none"]]
    assert list(found[0]) == ["prediction_0", "prediction_1"]


@pytest.mark.parametrize(
    ("answer", "error", "fact"),
    [
        ("None", ArtifactError, "returns nothing"),
        ("[1.0]", ArtifactError, "once for each row"),
        ("rows['b'].mean()", ArtifactError, "once for each row"),
        ("{'prediction': [1] * len(rows)}", ArtifactError, "Return its values"),
        ("rows['b'].sort_values()", ArtifactError, "index"),
        ("rows.set_index('b')['t']", ArtifactError, "index"),
        ("1 / 0", FeatureError, "ZeroDivisionError"),
        ("rows['nothing']", FeatureError, "KeyError"),
    ],
)
def test_an_answer_that_is_not_one_for_each_row_is_refused(
    answer: str, error: type[MlopsError], fact: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=fact):
        rule(tmp_path, f"def f(rows):\n    return {answer}\n").predict(ROWS)


@pytest.mark.parametrize(
    "answer", ["[None if i else 'x' for i in range(len(rows))]", "rows['a'] * float('nan')"]
)
def test_rows_without_an_answer_fail_the_dispatch_and_none_is_written(
    answer: str, workshop: Workshop
) -> None:
    (workshop.folder / "silent_rules.py").write_text(f"def f(rows):\n    return {answer}\n")
    workshop.add_model("churn", model={"format": "python", "uri": "silent_rules:f"}, features=["a"])
    with pytest.raises(MlopsError):
        workshop.run(workshop.dispatch())
    assert not workshop.in_sink("SELECT name FROM sqlite_master WHERE name = 'churn_predictions'") or (
        workshop.predictions() == []
    )


@pytest.mark.parametrize(
    ("source", "uri", "fact"),
    [
        ("f = 1", "odd:f", "is a int"),
        ("async def f(rows): ...", "odd:f", "is a function"),
        ("class f: pass", "odd:f", "without `predict`"),
        ("class f:\n  def __init__(self, x): ...\n  def predict(self, rows): ...", "odd:f", "TypeError"),
        ("def g(rows): ...", "odd:f", "has no 'f'"),
        ("def f(rows: ...", "odd:f", "SyntaxError"),
        ("import nothing_like_it", "odd:f", "No module named 'nothing_like_it'"),
        ("raise SystemExit(0)", "odd:f", "SystemExit"),
        ("", "nowhere:f", "no package 'nowhere'"),
        ("", "odd.inner:f", "ModuleNotFoundError"),
        ("", "bare.odd:f", "no __init__.py"),
        ("", "json:loads", "imported in this process already"),
    ],
)
def test_what_is_no_model_is_named(source: str, uri: str, fact: str, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "odd.py").write_text(source)
    with pytest.raises(ArtifactError, match=fact):
        load_runtime(ArtifactConfig(format="python", uri=f"{tmp_path}/{uri}"), features=("a",))


def test_code_must_be_told_its_features(tmp_path: Path) -> None:
    (tmp_path / "untold.py").write_text("def f(rows): ...")
    with pytest.raises(FeatureError, match="features:"):
        load_runtime(ArtifactConfig(format="python", uri=f"{tmp_path}/untold:f"), features=None)


def test_code_reads_its_package_and_no_other_file_of_the_deployment(workshop: Workshop) -> None:
    (workshop.folder / "prying_rules.py").write_text(
        "from pathlib import Path\n\ndef f(rows):\n"
        "    Path(__file__).with_name('config.yaml').read_text()\n    return [1] * len(rows)\n"
    )
    workshop.add_model("churn", model={"format": "python", "uri": "prying_rules:f"}, features=["a"])
    models = StepModels(must_be_confined=False)
    try:
        process = models.load(workshop.model())
        assert isinstance(process, ModelProcess)
        assert "files" in process.confinement
        with pytest.raises(MlopsError, match="Permission"):
            process.predict(pa.RecordBatch.from_pydict({"a": [1.0]}))
    finally:
        models.close()


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ({"format": "python", "uri": "rules.py"}, "uri"),
        ({"format": "python", "uri": "s3://bucket/rules:f"}, "uri"),
        ({"format": "python", "uri": "rules:f", "trusted": ["x"]}, "trusted"),
        ({"format": "skops", "uri": "churn.skops", "container": "polars"}, "container"),
        ({"format": "python", "uri": "r:f", "container": "arrow", "dtypes": {"a": "text"}}, "dtypes"),
    ],
)
def test_a_mistake_in_the_entry_is_named(model: dict[str, Any], path: str, workshop: Workshop) -> None:
    workshop.add_model("churn", model=model)
    (problem,) = workshop.loaded.broken["churn"]
    assert problem.path.startswith(f"models.churn.model.{path}")
