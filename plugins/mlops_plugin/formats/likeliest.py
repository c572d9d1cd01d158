"""The class that a classifier predicts, from its probabilities: so it is asked once, and not twice.

Only for classes of scikit-learn whose own `predict` was read and names the class of the highest probability,
or of the highest score that probabilities grow with. Rows whose two highest probabilities are so close that
rounding may hide which one it is are asked again, and so is everything else. docs/models.md lists them.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from mlops_plugin.formats.importing.sklearn_import import is_sklearn_from

Values = np.ndarray[Any, Any]

# Far more than probabilities are rounded by, and far less than makes rows that are asked again frequent.
CLOSE = 1e-9
_MOST_KINDS = 256  # of estimators, of which it is known where their methods stand
# Each row is computed by itself, so a few rows may be asked again alone.
_ROW_BY_ROW = frozenset(
    (
        ("sklearn.ensemble._forest", "ForestClassifier"),  # argmax of predict_proba
        ("sklearn.tree._classes", "BaseDecisionTree"),  # argmax of the leaf's shares
        ("sklearn.ensemble._hist_gradient_boosting.gradient_boosting", "HistGradientBoostingClassifier"),
        ("sklearn.neighbors._classification", "KNeighborsClassifier"),  # most votes of the same neighbours
    )
)
# Their products of matrices may differ in the last bit with other rows beside them: all rows are asked again.
_TOGETHER = frozenset(
    (
        ("sklearn.calibration", "CalibratedClassifierCV"),  # argmax of predict_proba
        ("sklearn.ensemble._bagging", "BaggingClassifier"),  # argmax of predict_proba
        ("sklearn.ensemble._gb", "GradientBoostingClassifier"),  # score >= 0, or argmax of scores
        ("sklearn.ensemble._voting", "VotingClassifier"),  # argmax of predict_proba, if it has one
        ("sklearn.ensemble._weight_boosting", "AdaBoostClassifier"),  # argmax of scores: softmax
        ("sklearn.discriminant_analysis", "DiscriminantAnalysisPredictionMixin"),  # argmax of scores: softmax
        ("sklearn.linear_model._base", "LinearClassifierMixin"),  # score > 0, or argmax of scores
        ("sklearn.naive_bayes", "_BaseNB"),  # argmax of joint logarithms: softmax
        ("sklearn.neural_network._multilayer_perceptron", "MLPClassifier"),  # output > 0.5, or argmax
    )
)
_PREDICTS_SO = _ROW_BY_ROW | _TOGETHER
_READ_FROM = (1, 9)  # in this release of scikit-learn; a model's own environment may have an older one


def _of_linear(model: Any) -> bool:
    """Its other heirs have probabilities of their own making."""
    return type(model).__name__ in (
        "LogisticRegression",
        "LogisticRegressionCV",
        "LinearDiscriminantAnalysis",
    )


def _of_neighbours(model: Any) -> bool:
    """Searched by the same call both times, and weighed by what cannot be negative."""
    return model._fit_method in ("kd_tree", "ball_tree") and model.weights in ("uniform", "distance")


def _of_network(model: Any) -> bool:
    return model._label_binarizer.y_type_ in ("binary", "multiclass")


_ONLY_IF: dict[str, Callable[[Any], bool]] = {
    "LinearClassifierMixin": _of_linear,
    "KNeighborsClassifier": _of_neighbours,
    "MLPClassifier": _of_network,
}
# What hands its rows on for both answers, and the attribute with the estimator that it hands them to.
_HANDS_ON = {
    ("sklearn.pipeline", "Pipeline"): "_final_estimator",
    ("sklearn.model_selection._search", "BaseSearchCV"): "best_estimator_",
    ("sklearn.ensemble._stacking", "StackingClassifier"): "final_estimator_",
}


def predict(model: Any, unchanged: Callable[[], Any], probabilities: list[Values]) -> Any:
    """What `model.predict` says about the rows for which it has given these probabilities.

    `unchanged` makes their table: a step of the model may have changed in place the one that it was given.
    """
    likely = probabilities[0] if len(probabilities) == 1 else None
    if likely is not None and hasattr(model, "labels_of") and hasattr(model, "native"):
        return model.labels_of(unchanged(), likely)  # a model of `formats.native` says itself what they mean
    classes = getattr(model, "classes_", None)
    if likely is None or likely.ndim != 2 or not isinstance(classes, np.ndarray) or classes.ndim != 1:
        return model.predict(unchanged())
    known = _known(model) if likely.shape[1] == len(classes) > 1 else None
    if known is None:
        return model.predict(unchanged())
    predicted = classes.take(np.argmax(likely, axis=1))
    first, second = likely.T if likely.shape[1] == 2 else np.partition(likely, -2, axis=1)[:, -2:].T
    (close,) = np.nonzero(~(np.abs(first - second) >= CLOSE))  # of NaN as well
    if not len(close):
        return predicted
    table = unchanged()
    if known not in _ROW_BY_ROW or not (hasattr(table, "iloc") or isinstance(table, np.ndarray)):
        return model.predict(table)
    predicted[close] = model.predict(table.iloc[close] if hasattr(table, "iloc") else table[close])
    return predicted


def _known(model: Any) -> tuple[str, str] | None:
    """Where the `predict` stands that decides in the end; None if it is none of those above."""
    while True:
        place = _own(model, "predict")
        if place is None or _own(model, "predict_proba") is None:
            return None
        if place in _PREDICTS_SO:
            needs = _ONLY_IF.get(place[1])
            return place if needs is None or needs(model) else None
        if place not in _HANDS_ON:
            return None
        model = getattr(model, _HANDS_ON[place], None)


def _own(model: Any, method: str) -> tuple[str, str] | None:
    """The module and the class of scikit-learn in which this class of scikit-learn has its method."""
    return None if method in getattr(model, "__dict__", {}) else _place_of(cast("Any", type(model)), method)


@functools.lru_cache(_MOST_KINDS)
def _place_of(kind: Any, method: str) -> tuple[str, str] | None:
    if not kind.__module__.startswith("sklearn."):
        return None
    if kind != getattr(importlib.import_module(kind.__module__), kind.__name__, None):
        return None
    if not is_sklearn_from(_READ_FROM):
        return None
    for base in kind.__mro__:
        if method in vars(base):
            return base.__module__, base.__name__
    return None
