"""Libraries that compute on several threads answer in a process that was forked after they were loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from lightgbm import LGBMRegressor
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from support import forked_dispatches
from support.workshop import FEATURES, Workshop

_ROWS = 3000  # enough for each library to share them among threads
_LIMIT_S = 240  # a hang, on the busiest machine


@pytest.fixture
def rows(workshop: Workshop) -> Any:
    workshop.add_rows(_ROWS)
    return workshop.frame([list(row) for row in workshop.in_source("SELECT a, b, c FROM customers")])


def _add(workshop: Workshop, file_format: str, file: str, **more: Any) -> None:
    pin = {}
    if file_format == "joblib":
        pin["sha256"] = sha256((workshop.folder / file).read_bytes()).hexdigest()
    workshop.add_model(
        Path(file).stem,
        model={"format": file_format, "uri": file, "isolation": "none", **pin, **more},
        features=list(FEATURES),
        execution="together",
    )


def _answers(workshop: Workshop, name: str) -> list[float]:
    return [row["prediction"] for row in workshop.predictions(f"{name}_predictions")]


def _dispatch_all(workshop: Workshop, *libraries: str) -> None:
    """Each model in a process that was forked after these libraries were loaded."""
    names = [name for name in workshop.models if name != "churn"]
    options = [str(workshop.folder), str(_LIMIT_S), ",".join(libraries), *names]
    program = [sys.executable, forked_dispatches.__file__, *options]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, **workshop.environment, "PYTHONPATH": paths, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    failed = [line for line in done.stdout.splitlines() if line.startswith(forked_dispatches.MARK)]
    assert failed == [], done.stderr[-3000:]


def _add_lightgbm(workshop: Workshop, rows: Any, target: Any) -> Any:
    light = LGBMRegressor(n_estimators=20, n_jobs=-1, verbose=-1).fit(rows, target)
    light.booster_.save_model(workshop.folder / "light.txt")
    _add(workshop, "lightgbm", "light.txt")
    return light


def _add_nested(workshop: Workshop, rows: Any, target: Any) -> Any:
    """A confined process may not make the semaphores of joblib's own threads."""
    nested = BaggingRegressor(RandomForestRegressor(n_estimators=3, n_jobs=-1), n_estimators=3, n_jobs=-1)
    joblib.dump(nested.fit(rows, target), workshop.folder / "apart.joblib")
    _add(workshop, "joblib", "apart.joblib", isolation="process")
    return nested


def _add_bagged(workshop: Workshop, rows: Any, target: Any) -> Any:
    """It asks for processes, which a daemonic one may not start."""
    bagged = BaggingRegressor(LinearRegression(), n_estimators=4, n_jobs=-1).fit(rows, target)
    joblib.dump(bagged, workshop.folder / "bagged.joblib")
    _add(workshop, "joblib", "bagged.joblib")
    return bagged


def test_openmp_and_joblib_on_all_threads_answer_in_daemonic_processes(workshop: Workshop, rows: Any) -> None:
    target = rows["a"] + rows["b"] ** 2
    light = _add_lightgbm(workshop, rows, target)
    bagged, nested = _add_bagged(workshop, rows, target), _add_nested(workshop, rows, target)
    _dispatch_all(workshop, "lightgbm")
    assert _answers(workshop, "light") == light.predict(rows).tolist()
    for name, model in (("bagged", bagged), ("apart", nested)):
        assert np.allclose(_answers(workshop, name), model.predict(rows), rtol=1e-12, atol=1e-12), name


@pytest.mark.long  # the same for each library
def test_models_on_all_threads_answer_in_daemonic_processes(workshop: Workshop, rows: Any) -> None:
    from catboost import CatBoostRegressor  # seconds that the shorter test is spared
    from skl2onnx import to_onnx
    from xgboost import XGBRegressor

    folder, target = workshop.folder, rows["a"] + rows["b"] ** 2
    light = _add_lightgbm(workshop, rows, target)
    extreme = XGBRegressor(n_estimators=20, n_jobs=-1).fit(rows, target)
    extreme.save_model(folder / "extreme.ubj")
    cat = CatBoostRegressor(iterations=20, verbose=False, allow_writing_files=False).fit(rows, target)
    cat.save_model(str(folder / "cat.cbm"))
    forest = RandomForestRegressor(n_estimators=10, max_depth=4, n_jobs=-1).fit(rows, target)
    single = to_onnx(forest, rows.to_numpy(np.float32)[:1])
    (folder / "graph.onnx").write_bytes(single.SerializeToString())
    scaler = make_column_transformer((StandardScaler(), ["a"]), (StandardScaler(), ["b", "c"]), n_jobs=-1)
    columns = make_pipeline(scaler, LinearRegression()).fit(rows, target)
    models = {"light": light, "extreme": extreme, "cat": cat}
    for name, model in (("forest", forest), ("columns", columns)):
        joblib.dump(model, folder / f"{name}.joblib")
        _add(workshop, "joblib", f"{name}.joblib")
    for kind, file in (("xgboost", "extreme.ubj"), ("catboost", "cat.cbm"), ("onnx", "graph.onnx")):
        _add(workshop, kind, file)
    nested = _add_nested(workshop, rows, target)

    _dispatch_all(workshop, "lightgbm", "xgboost", "catboost", "onnxruntime")
    # Jobs add up what they share as they finish, and a graph has 32 bits.
    summed = {"forest": forest, "apart": nested, "columns": columns}
    for name, model, within in [*((*each, 1e-12) for each in summed.items()), ("graph", forest, 1e-5)]:
        assert np.allclose(_answers(workshop, name), model.predict(rows), rtol=within, atol=within), name
    for name, model in models.items():
        assert _answers(workshop, name) == np.asarray(model.predict(rows)).tolist(), name
