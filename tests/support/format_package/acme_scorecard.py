"""Scorecards: so many points for each unit of a column, and one of two labels by their sum."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd


class Scorecard:
    """A model as scikit-learn's protocol has it."""

    _estimator_type = "classifier"

    def __init__(self, points: dict[str, float], labels: list[str]) -> None:
        self.feature_names_in_ = np.array(list(points), dtype=object)
        self.classes_ = np.array(labels)
        self._points = np.array(list(points.values()))

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        second = 1 / (1 + np.exp(-(rows.to_numpy(dtype=float) * self._points).sum(axis=1)))
        return np.column_stack([1 - second, second])

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(self.classes_[self.predict_proba(rows).argmax(axis=1)])


def load(content: bytes) -> Scorecard:
    """The model in a file's bytes."""
    card = json.loads(content)
    return Scorecard(card["points"], card["labels"])
