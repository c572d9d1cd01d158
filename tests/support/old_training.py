"""Trains models where it is run, in the Python of an old release, and writes down what they answer there.

Run with `-I`, a folder with rows.json, and our signature_writer.py: no other code of ours is there. joblib
files get a signature; skops files of the same models do not: the rules for those see old releases, too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

NUMBERS = ["age", "income", "visits"]
NAMES = ("linear", "boosted", "gradient", "texts", "outliers", "forest")
UNNAMED = ("forest",)  # trained on an array


def main(folder: Path, writer: Path) -> None:
    rows = _read(folder / "rows.json")
    signing = _load(writer)
    answers: dict[str, Any] = {}
    for name, (model, columns) in _models().items():
        table: Any = rows[columns]
        if name in UNNAMED:
            table = table.to_numpy()
        elif name == "texts":
            table = rows["note"]
        truth = rows["age"] + rows["visits"]
        model.fit(table, truth if name == "forest" else (truth > 60).map({True: "stays", False: "leaves"}))
        answers[name] = {"features": columns, "answers": _answers(model, table)}
        answers[name] |= _save(folder, name, model)
        names = columns if name in UNNAMED else None
        signing.write_signature(model, table, folder / f"{name}.joblib", names=names)
    (folder / "answers.json").write_text(json.dumps(answers))


def _read(path: Path) -> Any:
    """As pandas reads a file: what is missing is NaN."""
    import pandas as pd

    rows = pd.DataFrame(json.loads(path.read_text()))
    rows["income"] = rows["income"].astype(float)
    rows["city"] = rows["city"].fillna(float("nan")).where(rows["city"].notna(), float("nan"))
    return rows


def _answers(model: Any, table: Any) -> dict[str, list[Any]]:
    found = {"prediction": model.predict(table).tolist()}
    if hasattr(model, "predict_proba"):
        probabilities = model.predict_proba(table).T.tolist()
        for label, values in zip(model.classes_, probabilities):  # noqa: B905 - old Pythons, too
            found[f"probability_{label}"] = values
    elif hasattr(model, "decision_function"):
        found["score"] = model.decision_function(table).tolist()
    return found


def _save(folder: Path, name: str, model: Any) -> dict[str, Any]:
    import joblib
    import skops.io

    joblib.dump(model, folder / f"{name}.joblib")
    skops.io.dump(model, folder / f"{name}.skops")
    return {
        "sha256": hashlib.sha256((folder / f"{name}.joblib").read_bytes()).hexdigest(),
        "trusted": sorted(skops.io.get_untrusted_types(file=folder / f"{name}.skops")),
    }


def _load(module: Path) -> Any:
    spec = importlib.util.spec_from_file_location(module.stem, module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def _models() -> dict[str, tuple[Any, list[str]]]:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
        IsolationForest,
        RandomForestRegressor,
    )
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    table = ColumnTransformer(
        [
            ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
        ]
    )
    gradient = GradientBoostingClassifier(n_estimators=20, random_state=0)
    return {
        "linear": (make_pipeline(table, LogisticRegression()), [*NUMBERS, "city"]),
        "boosted": (HistGradientBoostingClassifier(max_iter=20, random_state=0), NUMBERS),
        "gradient": (make_pipeline(SimpleImputer(), gradient), NUMBERS),
        "texts": (make_pipeline(TfidfVectorizer(), LogisticRegression()), ["note"]),
        "outliers": (IsolationForest(n_estimators=20, random_state=0), ["age", "visits"]),
        "forest": (RandomForestRegressor(n_estimators=10, random_state=0), ["age", "visits"]),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
