"""Models that the real MLflow has logged (tests/support/mlflow_folders) answer as its own loader does."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.cli import main
from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.errors import ArtifactChanged, ArtifactError, FeatureError
from mlops_plugin.formats.artifact import sha256_of
from mlops_plugin.formats.runtime import Runtime, load_runtime
from support.workshop import Workshop

FOLDERS = Path(__file__).parents[2] / "support" / "mlflow_folders"
HASHING = Path(__file__).parents[3] / "docs" / "formats.md"
PICKLED = ("cloudpickle", "lightgbm_pickled")
TRUSTED = (
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
)


def artifact(uri: Path, **more: Any) -> ArtifactConfig:
    return ArtifactConfig.model_validate({"format": "mlflow", "uri": str(uri), **more})


def pinned(uri: Path, **more: Any) -> ArtifactConfig:
    return artifact(uri, sha256=sha256_of(artifact(uri)), **more)


def expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDERS / name / "expected.json").read_text())
    return found


def as_queried(name: str) -> pa.RecordBatch:
    """The rows as a database returns them: doubles, whole numbers of 64 bits, times."""
    rows = expected(name)["rows"]
    if "since" in rows:
        rows["since"] = [datetime.datetime.fromisoformat(moment) for moment in rows["since"]]
    return pa.RecordBatch.from_pydict({column: pa.array(values) for column, values in rows.items()})


def answer(runtime: Runtime, rows: pa.RecordBatch, column: str = "prediction") -> list[Any]:
    found: list[Any] = runtime.predict(rows).column(column).to_pylist()
    return found


@pytest.mark.parametrize(
    ("name", "column", "more"),
    [
        ("skops", "prediction", {}),
        ("cloudpickle", "prediction", {}),
        ("xgboost", "prediction", {}),
        ("lightgbm", "probability_1", {"classes": (0, 1)}),
        ("lightgbm_wrapper", "prediction", {"trusted": TRUSTED}),
        ("lightgbm_pickled", "prediction", {}),
        ("catboost", "prediction", {}),
        ("onnx", "prediction", {}),
    ],
)
def test_each_flavour_answers_as_mlflows_own_loader(name: str, column: str, more: dict[str, Any]) -> None:
    folder = FOLDERS / name / "model"
    runtime = load_runtime(pinned(folder, **more), features=None)
    (answers,) = expected(name)["answers"].values()
    answers = [value for (value,) in answers] if isinstance(answers[0], list) else answers
    assert answer(runtime, as_queried(name), column) == answers
    assert runtime.artifact_sha256 == sha256_of(artifact(folder))


@pytest.mark.parametrize("name", PICKLED)
def test_a_pickled_model_is_loaded_from_the_pinned_folder_only(name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDERS / name / "model", tmp_path / "churn")
    sha256 = sha256_of(artifact(folder))
    with pytest.raises(ArtifactError) as unpinned:
        load_runtime(artifact(folder), features=None)
    assert f"sha256: {sha256}" in str(unpinned.value)
    assert load_runtime(artifact(folder, sha256=("0" * 64, sha256)), features=None).artifact_sha256 == sha256
    (folder / "conda.yaml").write_text("name: other\n")  # not the model's own file
    with pytest.raises(ArtifactChanged):
        load_runtime(artifact(folder, sha256=("0" * 64, sha256)), features=None)


def test_the_hash_is_what_the_documented_command_prints(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDERS / "skops" / "model", tmp_path / "churn")
    sha256 = sha256_of(artifact(folder))
    (folder / "registered_model_meta").write_text("version: 7\n")  # what MLflow's client adds to a download
    (command,) = (
        line.strip() for line in HASHING.read_text().splitlines() if line.strip().startswith("find .")
    )
    printed = subprocess.run(["bash", "-c", command], cwd=folder, check=True, capture_output=True, text=True)
    assert printed.stdout.split()[0] == sha256 == sha256_of(artifact(folder))


@pytest.mark.parametrize("name", ["churn.zip", "churn.tar", "churn.tar.gz", "inside.zip", "inside.tar.gz"])
def test_an_archive_answers_as_its_folder(name: str, tmp_path: Path) -> None:
    folder, top = FOLDERS / "skops" / "model", "model/" if name.startswith("inside") else ""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if name.endswith("zip"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in files:
                packed.write(path, top + str(path.relative_to(folder)))
    else:
        with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as tar:
            tar.add(folder, top or ".")
    sha256 = subprocess.check_output(["sha256sum", tmp_path / name], text=True).split()[0]
    runtime = load_runtime(artifact(tmp_path / name, sha256=sha256), features=None)
    assert answer(runtime, as_queried("skops")) == expected("skops")["answers"]["prediction"]
    assert runtime.artifact_sha256 == sha256
    with pytest.raises(ArtifactChanged):
        load_runtime(artifact(tmp_path / name, sha256="0" * 64), features=None)


def test_a_column_is_found_by_its_name_and_refused_by_its_type() -> None:
    runtime = load_runtime(pinned(FOLDERS / "cloudpickle" / "model"), features=None)
    rows = as_queried("cloudpickle")
    backwards = rows.select(list(reversed(rows.schema.names)))
    assert answer(runtime, backwards) == expected("cloudpickle")["answers"]["prediction"]
    for name, values in {"city": [1], "a": ["x"], "since": [1.5], "member": ["x"]}.items():
        place = rows.schema.get_field_index(name)
        wrong = rows.slice(0, 1).set_column(place, name, pa.array(values))
        with pytest.raises(FeatureError) as refused:
            runtime.predict(wrong)
        assert f"'{name}'" in str(refused.value)


def test_a_python_function_alone_is_refused_with_the_remedy() -> None:
    with pytest.raises(ArtifactError) as refused:
        load_runtime(pinned(FOLDERS / "pyfunc" / "model"), features=None)
    assert [
        word
        for word in ("loader_module", "format: python", "mlflow.sklearn")
        if word not in str(refused.value)
    ] == []


@pytest.mark.slow
def test_a_logged_folder_becomes_a_model_that_is_checked_signed_and_dispatched(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(FOLDERS / "lightgbm_pickled" / "model", workshop.folder / "shop")
    rows = expected("lightgbm_pickled")["rows"]
    values = ", ".join(str((number, *row)) for number, row in enumerate(zip(*rows.values(), strict=True)))
    workshop.in_source(
        "CREATE TABLE shop (id INTEGER, a REAL, b REAL, c REAL)", f"INSERT INTO shop VALUES {values}"
    )
    options = ["--model", str(workshop.folder / "shop"), "--connection", "source", "--sink", "sink", "--yes"]
    assert main(["init", *options, "--query", "SELECT * FROM shop"]) == 0
    entry = workshop.model("shop").model
    assert (entry.format, entry.sha256) == ("mlflow", sha256_of(entry))
    assert main(["sign", "shop"]) == 0
    assert main(["check", "--connect", "shop"]) == 0
    assert "without files" in capsys.readouterr().out  # the process that it was loaded in
    assert main(["dispatch", "shop"]) == 0
    found = workshop.predictions("shop_predictions")
    assert [row["prediction"] for row in found] == expected("lightgbm_pickled")["answers"]["prediction"]
    assert {row["artifact_sha256"] for row in found} == {entry.sha256}
