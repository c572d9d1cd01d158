"""A file of any format that is cut or damaged is refused, or ends no process but its model's."""

from __future__ import annotations

import pickle
from hashlib import sha256
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from catboost import CatBoostClassifier
from lightgbm import LGBMClassifier
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from mlops_plugin.errors import ServingError
from support.damaged_files import ANSWERED, ENDED, HUNG, REFUSED, Outcome, Sound, outcomes
from support.native_models import NUMBERS, SHOP, SHOP_SCORE
from support.workshop import Workshop

LABELS = np.where(SHOP_SCORE > 1.5, "stays", "leaves")
TREES = ("sklearn.tree._tree.Tree",)
# By default these are loaded in a process of their own, which a broken one may crash: native code reads them,
# or the file says which code to run.
APART = ("lightgbm", "xgboost", "catboost", "onnx", "joblib", "pickle")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Sound]]:
    """A file of each format."""
    folder = tmp_path_factory.mktemp("sound")
    whole = NUMBERS.fillna(0)
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(whole, LABELS)
    trees = RandomForestClassifier(n_estimators=2, max_depth=3).fit(whole, LABELS)
    skops.io.dump(trees, folder / "m.skops")
    joblib.dump(trees, folder / "m.joblib")
    joblib.dump(linear, folder / "packed.joblib", compress=("gzip", 3))
    (folder / "m.pickle").write_bytes(pickle.dumps(trees))
    places = (LABELS == "stays").astype(int)
    few: dict[str, Any] = {"n_estimators": 3, "n_jobs": 1}
    LGBMClassifier(**few, verbose=-1).fit(SHOP, LABELS).booster_.save_model(folder / "m.txt")
    boosted = XGBClassifier(**few, enable_categorical=True).fit(SHOP, places)
    boosted.save_model(folder / "m.json")
    boosted.save_model(folder / "m.ubj")
    rows = SHOP.assign(city=SHOP.city.astype(object).fillna("none")).astype({"store": int, "land": str})
    settings: dict[str, Any] = {"iterations": 3, "depth": 3, "allow_writing_files": False, "verbose": False}
    boosting = CatBoostClassifier(**settings, cat_features=["city", "store", "land"], one_hot_max_size=1)
    boosting.fit(rows, LABELS).save_model(str(folder / "m.cbm"))
    converted = to_onnx(trees, whole.to_numpy(np.float32)[:1], options={"zipmap": False})
    (folder / "m.onnx").write_bytes(converted.SerializeToString())
    classes = {"classes": ["leaves", "stays"]}
    named = {"features": ["a", "b", "c"]}
    return folder, [
        Sound("m.skops", "skops", {"trusted": [*TREES]}),
        Sound("m.joblib", "joblib", {}),
        Sound("packed.joblib", "joblib", {}),
        Sound("m.pickle", "pickle", {}),
        Sound("m.txt", "lightgbm", classes),
        Sound("m.json", "xgboost", {}),
        Sound("m.ubj", "xgboost", {}),
        Sound("m.cbm", "catboost", {}),
        Sound("m.onnx", "onnx", named),
    ]


def _surprises(found: list[Outcome], files: list[Sound]) -> list[Outcome]:
    """What is neither an answer, nor an error of ours, nor what ends a process of its own.

    Such a process has a time limit, too: a tree that was damaged into a circle has no end.
    """
    formats = {file.file: file.format for file in files}
    return [
        one
        for one in found
        if one.end not in (ANSWERED, REFUSED)
        and not (one.end in (ENDED, HUNG) and formats[one.file] in APART)
    ]


def test_a_damaged_file_is_refused_or_ends_its_own_process_only(sound: tuple[Path, list[Sound]]) -> None:
    folder, files = sound
    found = outcomes(folder, files, range(3))
    assert _surprises(found, files) == []
    assert {one.file for one in found if one.end == REFUSED} == {file.file for file in files}
    # A cut file may have lost what no answer depends on; a shorter one than half is never asked.
    assert [one for one in found if one.damage.startswith("noise") and one.end == ANSWERED] == []


@pytest.mark.slow
def test_a_file_that_crashes_its_library_when_it_is_loaded_is_named(workshop: Workshop) -> None:
    content = b"cos\nabort\n(tR."  # what a library does that finds its own memory broken
    (workshop.folder / "cut.pickle").write_bytes(content)
    entry = {"format": "pickle", "uri": "cut.pickle", "sha256": sha256(content).hexdigest()}
    workshop.add_model("churn", model=entry)
    with pytest.raises(ServingError, match=r"signal SIG\w+.*; it was loading .*cut\.pickle.*copy it again"):
        workshop.run(workshop.dispatch())


@pytest.mark.long
def test_thousands_of_damaged_files_are_no_surprise(sound: tuple[Path, list[Sound]]) -> None:
    folder, files = sound
    assert _surprises(outcomes(folder, files, range(3, 150)), files) == []
