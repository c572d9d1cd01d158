"""Each format has what every model has: check, contract, baseline, partitions, quarantine, what if, why."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostClassifier, CatBoostRegressor
from lightgbm import LGBMClassifier
from skl2onnx import to_onnx
from sklearn.tree import DecisionTreeRegressor
from xgboost import XGBClassifier

from mlops_plugin.cli import main
from mlops_plugin.config.schema import ServingConfig
from mlops_plugin.errors import ThresholdError
from mlops_plugin.events.details.step_reports import InferReport
from mlops_plugin.serving.run import Showroom
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.web.showroom.picture import pixel_map
from mlops_plugin.workers.pool import ModelPool
from support.mlflow_server import FOLDERS
from support.own_environments import add_model, scorer, sync, write_wheels
from support.rejected_rows import counts, quarantined
from support.workshop import FEATURES, Workshop

ROWS, PARTITIONS = 40, 3
BEYOND = 7  # the id of a row that breaks the contract
RULE = {"a": {"type": "number", "nullable": False, "min": -100, "max": 100}}
LABELS = ["leaves", "stays"]


@dataclass(frozen=True)
class Saved:
    """The entry of a model, and what its library answers by itself."""

    entry: dict[str, Any]
    answers: Callable[[pd.DataFrame], list[Any]]
    features: list[str] | None = field(default_factory=lambda: [*FEATURES])


def _training() -> tuple[pd.DataFrame, Any]:
    rows = pd.DataFrame(np.random.default_rng(3).normal(size=(200, 3)), columns=list(FEATURES))
    return rows, (rows.a + rows.b**2 > 0.5).to_numpy()


def _lightgbm(folder: Path) -> Saved:
    rows, is_more = _training()
    model = LGBMClassifier(n_estimators=4, n_jobs=1, verbose=-1).fit(rows, np.array(LABELS)[is_more * 1])
    model.booster_.save_model(folder / "m.txt")
    entry = {"format": "lightgbm", "uri": "m.txt", "classes": LABELS}
    return Saved(entry, lambda rows: list(model.predict(rows)), None)


def _xgboost(folder: Path) -> Saved:
    rows, is_more = _training()
    model = XGBClassifier(n_estimators=4, n_jobs=1).fit(rows, is_more.astype(int))
    model.save_model(folder / "m.ubj")
    return Saved({"format": "xgboost", "uri": "m.ubj"}, lambda rows: model.predict(rows).tolist(), None)


def _catboost(folder: Path) -> Saved:
    rows, is_more = _training()
    model = CatBoostRegressor(iterations=4, verbose=False, allow_writing_files=False, thread_count=1)
    model.fit(rows, is_more + rows.c).save_model(str(folder / "m.cbm"))
    return Saved({"format": "catboost", "uri": "m.cbm"}, lambda rows: model.predict(rows).tolist(), None)


def _onnx(folder: Path) -> Saved:
    """A tree, whose numbers are the same in 32 bits."""
    rows, is_more = _training()
    model = DecisionTreeRegressor(max_depth=4).fit(rows.to_numpy(np.float32), is_more * 2.5)
    converted = to_onnx(model, rows.to_numpy(np.float32)[:1])
    (folder / "m.onnx").write_bytes(converted.SerializeToString())

    def answers(rows: pd.DataFrame) -> list[Any]:
        return [float(np.float32(value)) for value in model.predict(rows.to_numpy(np.float32))]

    return Saved({"format": "onnx", "uri": "m.onnx"}, answers)


def _mlflow(folder: Path) -> Saved:
    shutil.copytree(FOLDERS / "catboost" / "model", folder / "logged")
    model = CatBoostClassifier().load_model(str(folder / "logged" / "model.cb"))

    def answers(rows: pd.DataFrame) -> list[Any]:
        return list(np.asarray(model.predict(rows.astype({"c": np.float32}))).reshape(-1).tolist())

    return Saved({"format": "mlflow", "uri": "logged"}, answers, None)


def _python(folder: Path) -> Saved:
    (folder / "house_rules.py").write_text(
        "def score(rows):\n    return rows['a'] * 2 + rows['b'] * rows['c']\n"
    )
    entry = {"format": "python", "uri": "house_rules:score"}
    return Saved(entry, lambda rows: (rows.a * 2 + rows.b * rows.c).tolist())


SAVE = {
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "catboost": _catboost,
    "onnx": _onnx,
    "mlflow": _mlflow,
    "python": _python,
}


@pytest.fixture(scope="module")
def pool() -> Iterator[ModelPool]:
    with contextlib.closing(ModelPool(ServingConfig())) as pool:
        yield pool


def _source_rows(workshop: Workshop) -> pd.DataFrame:
    found = workshop.in_source("SELECT id, a, b, c FROM customers ORDER BY id")
    return pd.DataFrame(found, columns=["id", *FEATURES]).set_index("id")


def _goes_through_everything(
    workshop: Workshop, pool: ModelPool, answers: Callable[[pd.DataFrame], list[Any]]
) -> None:
    """`churn` is configured, without a contract and partitions."""
    workshop.add_rows(ROWS - len(_source_rows(workshop)))
    entry = workshop.models["churn"]
    assert main(["baseline", "churn"]) == 0
    contract = {"columns": RULE, "baseline": True}
    image = {"width": len(FEATURES), "height": 1}
    entry |= {"input": contract, "error_threshold": 1, "showroom": {"image": image}}
    entry["source"] |= {
        "query": "SELECT id, a, b, c FROM customers",
        "partitions": {"column": "id", "count": PARTITIONS},
    }
    workshop.write()
    workshop.in_source(f"UPDATE customers SET a = 1e9 WHERE id = {BEYOND}")
    assert main(["check", "--connect", "churn"]) == 0

    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    rows = _source_rows(workshop).drop(index=BEYOND)
    assert {row["id"]: row["prediction"] for row in workshop.predictions()} == dict(
        zip(rows.index, answers(rows), strict=True)
    )
    assert counts(workshop, dispatch) == (ROWS, ROWS - 1, 1, ROWS - 1)
    assert quarantined(workshop) == [(BEYOND, "a", "above 100", "1000000000.0")]
    reports = [e.details for e in workshop.events(dispatch.id) if isinstance(e.details, InferReport)]
    assert len(reports) == PARTITIONS
    assert all(report.libraries["Python"] for report in reports)

    with workshop.deployment.event_store() as store:
        showroom = Showroom(workshop.deployment, store, pool)
        shown = showroom.run(workshop.model(), Wanted(keys=[(3,)], changes={"a": 0.25, "b": 1.5}), "ada")
        why = showroom.run(workshop.model(), Wanted(keys=[(3,)], is_why=True), "ada").explanation
        beyond = showroom.run(workshop.model(), Wanted(keys=[(BEYOND,)]), "ada")
    as_it_is = rows.loc[[3]]
    both = pd.concat([as_it_is, as_it_is.assign(a=0.25, b=1.5)])
    assert [answer and answer["prediction"] for answer in shown.answers] == answers(both)
    assert beyond.answers == [None]
    assert why is not None
    assert why.source.baseline is not None
    assert why.reference is not None
    added = why.reference + sum(one.amount or 0.0 for one in why.contributions)
    assert added == pytest.approx(why.value, abs=1e-6)
    drawn = pixel_map(why, FEATURES, workshop.model().showroom.image)
    assert drawn is not None
    assert drawn.picture is not None


@pytest.mark.parametrize("kind", SAVE)
def test_a_model_of_each_format_has_what_every_model_has(
    kind: str, workshop: Workshop, pool: ModelPool
) -> None:
    saved = SAVE[kind](workshop.folder)
    # In this process where that can be chosen; the Showroom's is always one of its own.
    workshop.add_model("churn", model={**saved.entry, "isolation": "none"}, features=saved.features)
    _goes_through_everything(workshop, pool, saved.answers)
    workshop.in_source("UPDATE customers SET b = b + 1000")
    with pytest.raises(ThresholdError):  # no row is within the baseline
        workshop.run(workshop.dispatch())


@pytest.mark.long  # the same in processes of their own, as it is by default
@pytest.mark.parametrize("kind", SAVE)
def test_a_model_in_a_process_of_its_own_has_it_too(kind: str, workshop: Workshop, pool: ModelPool) -> None:
    saved = SAVE[kind](workshop.folder)
    workshop.add_model("churn", model=saved.entry, features=saved.features)
    _goes_through_everything(workshop, pool, saved.answers)


@pytest.mark.long
def test_a_model_with_libraries_of_its_own_has_it_too(
    workshop: Workshop, pool: ModelPool, tmp_path: Path
) -> None:
    add_model(workshop, scorer(), "old-scores==1.0")
    assert sync(workshop, write_wheels(tmp_path / "wheels")) == 0
    _goes_through_everything(workshop, pool, lambda rows: (rows.a + 1000).tolist())
