"""Asks fitted estimators about each table once: same values, types and memory order have the same answer."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn import calibration, compose, ensemble, model_selection, multiclass
from sklearn.pipeline import FeatureUnion, Pipeline

_METHODS = ("predict", "predict_proba", "decision_function", "transform")
_KINDS = (
    Pipeline,
    FeatureUnion,
    compose.ColumnTransformer,
    compose.TransformedTargetRegressor,
    calibration.CalibratedClassifierCV,
    ensemble.StackingClassifier,
    ensemble.StackingRegressor,
    ensemble.VotingClassifier,
    ensemble.VotingRegressor,
    model_selection.FixedThresholdClassifier,
    model_selection.GridSearchCV,
    model_selection.TunedThresholdClassifierCV,
    multiclass.OneVsRestClassifier,
)


@contextlib.contextmanager
def asked_once() -> Iterator[None]:
    """While it lasts, estimators made of others compute nothing twice; none may be fitted again.

    Their classes remember, not the estimators, which the product sees as they are.
    """
    changed = {}
    for method in _METHODS:
        for kind in _KINDS:
            owner = next((base for base in kind.__mro__ if method in vars(base)), None)
            if owner is not None and (owner, method) not in changed:
                changed[owner, method] = vars(owner)[method]
    for (owner, method), original in changed.items():
        setattr(owner, method, _Remembering(original))
    try:
        yield
    finally:
        for (owner, method), original in changed.items():
            setattr(owner, method, original)


class _Remembering:
    """A method that keeps the answers of each estimator."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self._answers: dict[int, tuple[Any, dict[Any, Any]]] = {}  # keeps the estimator, whose id it is

    def __get__(self, estimator: Any, kind: type | None = None) -> Any:
        ask = self._original.__get__(estimator, kind)  # raises AttributeError if the estimator has it not
        if estimator is None:
            return ask
        return _asking_once(ask, self._answers.setdefault(id(estimator), (estimator, {}))[1])


def _asking_once(ask: Callable[..., Any], answers: dict[Any, Any]) -> Callable[..., Any]:
    @functools.wraps(ask)
    def asked(*tables: Any, **others: Any) -> Any:
        try:
            key = tuple(map(imprint, (*tables, *others.values())))
        except TypeError:  # a sparse matrix
            return ask(*tables, **others)
        if key not in answers:
            answers[key] = ask(*tables, **others)
        return _copied(answers[key])

    return asked


def _copied(answer: Any) -> Any:
    """Of an array, in the same memory order."""
    if isinstance(answer, np.ndarray):
        return answer.copy(order="K")
    return answer.copy() if hasattr(answer, "copy") else answer


def imprint(table: Any) -> tuple[Any, ...]:
    """Equal for tables that no estimator can tell apart: container, names, types, values, memory order."""
    if isinstance(table, pd.DataFrame):
        blocks = [(*block.mgr_locs.as_array.tolist(), imprint(block.values)) for block in table._mgr.blocks]
        return ("frame", *table.columns, *sorted(blocks, key=lambda block: block[0]))
    if isinstance(table, pd.Series):
        return ("series", table.name, imprint(table.array))
    if isinstance(table, np.ndarray):
        order = (table.flags.c_contiguous, table.flags.f_contiguous, table.strides)
        values = _typed(table.ravel().tolist()) if table.dtype == object else table.tobytes()
        return ("array", table.dtype.str, table.shape, order, values)
    if isinstance(table, pd.api.extensions.ExtensionArray):
        return ("extension", str(table.dtype), _typed(table.tolist()))
    if isinstance(table, list):
        return ("list", _typed(table))
    raise TypeError(f"no imprint of {type(table)}")


def _typed(values: list[Any]) -> tuple[Any, ...]:
    return tuple((type(value).__name__, repr(value)) for value in values)
