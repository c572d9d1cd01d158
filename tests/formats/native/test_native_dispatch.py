"""A native file goes all the way: its entry, check, signature, baseline and a dispatch in its own process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from catboost import CatBoostClassifier
from lightgbm import LGBMClassifier
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from xgboost import XGBClassifier

from mlops_plugin.cli import main
from mlops_plugin.config.schema import ServingConfig
from mlops_plugin.errors import DriverMissing, ServingError
from mlops_plugin.formats.native.libraries import Library, import_library
from mlops_plugin.formats.signature.signature_writer import write_signature
from mlops_plugin.workers.pool import ModelPool
from mlops_plugin.workers.process import ModelProcess
from mlops_plugin.workers.process_limits import StepLimits
from support.native_models import NUMBERS, SHOP, SHOP_SCORE, as_queried
from support.workshop import Workshop

LABELS = SHOP_SCORE.gt(1.5).map({True: "stays", False: "leaves"})


def save_lightgbm(folder: Path) -> Any:
    model = LGBMClassifier(n_estimators=4, verbose=-1, n_jobs=1, min_data_per_group=1).fit(SHOP, LABELS)
    model.booster_.save_model(folder / "shop.txt")
    return model


def save_xgboost(folder: Path) -> tuple[Any, pd.DataFrame]:
    places = (LABELS == "stays").astype(int)
    model = XGBClassifier(n_estimators=4, n_jobs=1, enable_categorical=True).fit(SHOP, places)
    model.save_model(folder / "shop.ubj")
    return model, SHOP


def save_onnx(folder: Path) -> tuple[Any, pd.DataFrame]:
    model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(NUMBERS, LABELS)
    types = [(name, FloatTensorType([None, 1])) for name in NUMBERS.columns]
    converted = to_onnx(model, initial_types=types, options={"zipmap": False})
    (folder / "shop.onnx").write_bytes(converted.SerializeToString())
    return model, NUMBERS


def save_catboost(folder: Path) -> tuple[Any, pd.DataFrame]:
    settings: dict[str, Any] = {"iterations": 5, "allow_writing_files": False, "one_hot_max_size": 1}
    rows = SHOP.drop(columns="city").astype({"store": int, "land": str})
    model = CatBoostClassifier(**settings, verbose=False, cat_features=["store", "land"])
    model.fit(rows, LABELS).save_model(str(folder / "shop.cbm"))
    return model, rows


def put_shop_into(workshop: Workshop) -> None:
    rows = as_queried(SHOP)
    kinds = {pa.string(): "TEXT", pa.float64(): "REAL", pa.int64(): "INTEGER"}
    columns = ", ".join(f"{field.name} {kinds[field.type]}" for field in rows.schema)
    values = [
        "({}, {})".format(number, ", ".join("NULL" if v is None else repr(v) for v in row.values()))
        for number, row in enumerate(rows.to_pylist())
    ]
    workshop.in_source(
        f"CREATE TABLE shop (id INTEGER PRIMARY KEY, {columns})",
        f"INSERT INTO shop VALUES {', '.join(values)}",
    )


@pytest.mark.slow
def test_a_file_becomes_a_model_that_is_checked_signed_and_dispatched(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    file = "shop.txt"
    model = save_lightgbm(workshop.folder)
    put_shop_into(workshop)
    query = "SELECT * FROM shop"
    options = ["--model", str(workshop.folder / file), "--connection", "source", "--sink", "sink"]
    assert main(["init", *options, "--query", query, "--classes", "leaves,stays", "--yes"]) == 0
    SHOP.to_csv(workshop.folder / "training.csv", index=False)  # where a category is a text or a number
    assert main(["sign", "shop", "--rows", str(workshop.folder / "training.csv")]) == 0
    signature = json.loads((workshop.folder / f"{file}.signature.json").read_text())
    assert signature["baseline"]["features"]["city"]["categories"]
    assert main(["check", "--connect", "shop"]) == 0
    assert "without files" in capsys.readouterr().out  # the process that it was loaded in
    assert main(["dispatch", "shop"]) == 0
    found = workshop.predictions("shop_predictions")
    assert [row["prediction"] for row in found] == model.predict(SHOP).tolist()
    expected = model.predict_proba(SHOP).tolist()
    assert [[row["probability_leaves"], row["probability_stays"]] for row in found] == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("save", "file", "tolerance"),
    [(save_xgboost, "shop.ubj", 0), (save_catboost, "shop.cbm", 0), (save_onnx, "shop.onnx", 1e-5)],
    ids=["xgboost", "catboost", "onnx"],
)
def test_a_file_that_training_has_signed_is_dispatched_and_asked_by_the_showroom_in_its_own_process(
    save: Any, file: str, tolerance: float, workshop: Workshop
) -> None:
    model, rows = save(workshop.folder)
    write_signature(model, rows, workshop.folder / file)
    put_shop_into(workshop)
    entry = {"format": save.__name__.removeprefix("save_"), "uri": file, "tolerance": tolerance}
    workshop.add_model("shop", model=entry, source={"query": "SELECT * FROM shop"})
    workshop.run(workshop.dispatch("shop"))
    found = workshop.predictions("shop_predictions")
    assert [row["prediction"] for row in found] == model.predict(rows).tolist()
    names = [f"probability_{label}" for label in model.classes_]
    answered = np.array([[row[name] for name in names] for row in found])
    assert np.abs(answered - model.predict_proba(rows)).max() <= tolerance
    with (
        contextlib.closing(ModelPool(ServingConfig())) as pool,  # with its limit of memory, on one thread
        pool.runtime(workshop.model("shop")) as process,
    ):
        shown = process.predict(as_queried(SHOP).slice(0, 20)).select(names).to_pylist()
    assert [[*row.values()] for row in shown] == answered[:20].tolist()


def test_a_file_that_crashes_its_library_ends_only_the_models_process(workshop: Workshop) -> None:
    model = LGBMClassifier(n_estimators=1, verbose=-1).fit(NUMBERS, LABELS)
    text = model.booster_.model_to_string()
    first = text[text.index("\nright_child=") :].split("\n")[1]
    forged = text.replace(first, "right_child=" + " ".join(["99999999"] * len(first.split(" "))))
    (workshop.folder / "forged.txt").write_text(forged)
    entry = {"format": "lightgbm", "uri": "forged.txt", "classes": ["leaves", "stays"]}
    workshop.add_model("forged", model=entry)
    process = ModelProcess(workshop.model("forged"), StepLimits(60, None, must_be_confined=False))
    try:
        process.load()
        with pytest.raises(ServingError, match="SIGSEGV"):
            process.predict(as_queried(NUMBERS))
    finally:
        process.end()


def test_a_missing_library_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(DriverMissing, match=r"pip install 'nothing-like-it>=1\.0,<2'"):
        import_library(Library("nothing_like_it", "nothing-like-it", (1, 0), 2), "m.txt")
    with pytest.raises(DriverMissing, match=r"numpy>=90\.1,<91.*version"):
        import_library(Library("numpy", "numpy", (90, 1), 91), "m.txt")


def test_the_limit_of_threads_holds_for_each_library(tmp_path: Path) -> None:
    save_lightgbm(tmp_path)
    save_xgboost(tmp_path)
    save_catboost(tmp_path)
    save_onnx(tmp_path)
    program = """
import os, sys, threading, time
import catboost, lightgbm, onnxruntime, xgboost
import pyarrow as pa
from support.native_models import SHOP, as_queried, load

def count():
    return len(os.listdir("/proc/self/task"))

def watch():
    global most
    while not is_done.is_set():
        most = max(most, count() - 1)
        time.sleep(0.0002)

rows = pa.concat_batches([as_queried(SHOP)] * 40)
is_done = threading.Event()
most = before = count()
watcher = threading.Thread(target=watch)
watcher.start()
for kind, file, more in (
    ("lightgbm", "shop.txt", {"classes": (0, 1)}),
    ("xgboost", "shop.ubj", {}),
    ("catboost", "shop.cbm", {}),
    ("onnx", "shop.onnx", {}),
):
    load(sys.argv[1] + "/" + file, kind, **more).predict(rows)
    if most > before:
        print(kind)
is_done.set()
watcher.join()
"""
    path = os.pathsep.join(str(Path(__file__).parents[3] / name) for name in ("plugins", "tests"))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"}
    command = [sys.executable, "-c", program, str(tmp_path)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == ""
