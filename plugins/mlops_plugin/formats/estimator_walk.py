"""Finds, inside a fitted model, the estimators that see the columns as they arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlops_plugin.formats.boosting import is_boosting, named_categories_of_boosting, names_of_boosting

Columns = tuple[str, ...]
COMPUTED = ""  # among the columns of a reader: one that a step before it has made

# Meta-estimators that hand their rows on as they are, and the attribute with the fitted estimators.
_INNER = {
    "CalibratedClassifierCV": "calibrated_classifiers_",
    "FixedThresholdClassifier": "estimator_",
    "FrozenEstimator": "estimator",
    "MultiOutputClassifier": "estimators_",
    "MultiOutputRegressor": "estimators_",
    "OneVsRestClassifier": "estimators_",
    "OutputCodeClassifier": "estimators_",
    "SelfTrainingClassifier": "estimator_",
    "StackingClassifier": "estimators_",
    "StackingRegressor": "estimators_",
    "TransformedTargetRegressor": "regressor_",
    "TunedThresholdClassifierCV": "estimator_",
    "VotingClassifier": "estimators_",
    "VotingRegressor": "estimators_",
}
# Mixtures make log-probabilities in the type of their rows, so whole numbers lose the digits after the point.
# The other hands them the type of its rows.
_TELL_INTEGERS = ("BayesianGaussianMixture", "Binarizer", "GaussianMixture")
_OLD_TAGS = {"two_d_array": "2darray"}
_OWN_PACKAGES = ("sklearn", "imblearn")
# What an encoder's categories are, by the letter of their dtype, or else by the names of their types.
_KINDS = {
    "i": "integer",
    "u": "integer",
    "f": "number",
    "b": "boolean",
    "U": "text",
    "M": "instant",
    "m": "span",
}
_KINDS_OF_OBJECTS = {
    "str": "text",
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "date": "date",
    "Decimal": "decimal",
    "bytes": "bytes",
    "time": "time",
    "datetime": "instant",
    "Timestamp": "instant",
    "timedelta": "span",
    "Timedelta": "span",
    "UUID": "uuid",
}


@dataclass(frozen=True)
class Reader:
    """An estimator that sees columns unchanged; as one Series instead of a table if `is_series`.

    `columns` are all that it sees, in its order; `COMPUTED` stands for those that are none of the query's.
    """

    step: Any
    columns: Columns
    is_series: bool = False


def readers_of(model: Any, features: Columns) -> list[Reader]:
    """The readers in a model, in the order in which they stand in it."""
    return list(_walk(Reader(model, features)))


@dataclass(frozen=True)
class Categories:
    """What an encoder knows of a column of this name (None: it was given none).

    `is_of_boosting`: it is LightGBM's, which takes other values for missing ones.
    """

    name: str | None
    values: np.ndarray[Any, Any]
    is_of_boosting: bool = False


def categories_behind(model: Any, direct: Sequence[Any]) -> Iterator[Categories]:
    """What the encoders in a model know that read what other steps have made.

    `direct`: the steps that read columns themselves.
    """
    if any(model is step for step in direct):
        return
    if is_own(model) and isinstance(getattr(model, "categories_", None), list):
        names = getattr(model, "feature_names_in_", None)
        for place, values in enumerate(model.categories_):
            yield Categories(None if names is None else str(names[place]), values)
    for name, known in named_categories_of_boosting(model).items():
        yield Categories(name, np.array(known, dtype=object), is_of_boosting=True)
    parts = [
        getattr(model, "_preprocessor", None) if is_own(model) else None,  # of histogram gradient boosting
        *(_inner(model) or ()),
        *(step for _, step in getattr(model, "steps", None) or ()),
        *(step for _, step in getattr(model, "transformer_list", None) or ()),
        *(step for _, step, _ in getattr(model, "transformers_", None) or ()),
    ]
    for part in parts:
        if part is not None and not isinstance(part, str):
            yield from categories_behind(part, direct)


def categories_of(name: str, readers: Sequence[Reader]) -> Iterator[np.ndarray[Any, Any]]:
    """The categories of a column that encoders among its readers know, each with its missing value."""
    for reader in readers:
        encoder = getattr(reader.step, "_preprocessor", None) or reader.step
        if encoder is not reader.step:  # histogram gradient boosting keeps an encoder of its own
            for _, transformer, columns in getattr(encoder, "transformers_", ()):
                places = np.flatnonzero(columns) if np.asarray(columns).dtype == bool else columns
                named = dict(
                    zip(np.atleast_1d(places).tolist(), getattr(transformer, "categories_", ()), strict=False)
                )
                yield from (
                    found for place, found in named.items() if reader.columns[place : place + 1] == (name,)
                )
            continue
        categories = getattr(encoder, "categories_", None)
        if not isinstance(categories, list) or not is_own(encoder):
            continue
        if len(categories) == len(reader.columns):
            yield np.asarray(categories[reader.columns.index(name)])


def kind_of(categories: np.ndarray[Any, Any]) -> str | None:
    """What an encoder's categories are, `other` for what no query returns; None if that is not one kind."""
    if categories.dtype.kind in _KINDS:
        return _KINDS[categories.dtype.kind]
    values = [value for value in categories.tolist() if not is_missing(value)]
    kinds = {_KINDS_OF_OBJECTS.get(type(value).__name__, "other") for value in values}
    if "other" in kinds:
        return "other"
    return kinds.pop() if len(kinds) == 1 else None


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or pd.NA."""
    return value is None or type(value).__name__ == "NAType" or value != value


def numbers_of(categories: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The numbers among what an encoder knows, as float64."""
    return np.array([value for value in categories.tolist() if not is_missing(value)], dtype=np.float64)


def known_names(model: Any) -> Columns | None:
    """The names of the columns of training, of the first estimator that kept them."""
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        return tuple(str(name) for name in names)
    if is_boosting(model):
        return names_of_boosting(model)
    steps = [step for _, step in getattr(model, "steps", None) or ()]
    inner = [*(_inner(model) or ()), *(step for step in steps if step is not None and step != "passthrough")]
    return next((names for names in map(known_names, inner[:1]) if names is not None), None)


def first_step(model: Any) -> Any:
    """The first estimator inside searches and pipelines."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif getattr(model, "steps", None):
            model = model.steps[0][1]
        else:
            return model


def is_own(step: Any) -> bool:
    """Whether scikit-learn or imbalanced-learn wrote all that the step does with a column."""
    if type(step).__module__.partition(".")[0] not in _OWN_PACKAGES:
        return False
    return getattr(step, "func", None) is None or type(step).__name__ != "FunctionTransformer"


def hands_on(step: Any) -> bool:
    """Whether the step is what a ColumnTransformer makes of `passthrough`."""
    return type(step).__name__ == "FunctionTransformer" and is_own(step)


def is_code_for_queries(step: Any) -> bool:
    """Whether it was written for the types of a query, and not trained on others: `format: python`."""
    return type(step).__module__.startswith("mlops_plugin.")


def may_change_rows(model: Any) -> bool:
    """Whether a step may scale or fill its table in place: one that does not copy, or foreign code."""
    if holds_foreign_code(model):
        return True
    params = model.get_params() if hasattr(model, "get_params") else {}
    return any(
        name.rpartition("__")[2].startswith("copy") and value is False for name, value in params.items()
    )


def holds_foreign_code(model: Any) -> bool:
    """Whether code of somebody else stands anywhere in a model: it may do anything with a batch."""
    if not is_own(model):
        return not is_boosting(model)
    parts = model.get_params(deep=True).values()
    return any(hasattr(part, "fit") and not is_own(part) and not is_boosting(part) for part in parts)


def runs_foreign_code(step: Any) -> bool:
    """Whether code of somebody else looks at the columns of a step, maybe inside of scikit-learn's own."""
    return not is_own(step) or holds_foreign_code(step)


def tells_integers(step: Any) -> bool:
    """Whether 1 and 1.0 may be two things to the estimator, as to code of the user's own."""
    return runs_foreign_code(step) or type(step).__name__ in _TELL_INTEGERS


def reads_documents(step: Any) -> bool:
    """Text vectorizers take a sequence of documents, not a table."""
    return input_tag(step, "string") and not input_tag(step, "two_d_array")


def leads_to_documents(model: Any) -> bool:
    """Whether a pipeline of the user's own steps ends up in a text vectorizer."""
    steps = [step for _, step in getattr(model, "steps", None) or ()]
    return any(reads_documents(step) for step in steps)


def reads_records(step: Any) -> bool:
    """`DictVectorizer` takes a dictionary for each row."""
    return input_tag(step, "dict") and not reads_documents(step)


def input_tag(step: Any, tag: str) -> bool:
    """What an estimator says of its input; one without tags takes a table of numbers."""
    tags = getattr(step, "__sklearn_tags__", None)
    if tags is None and is_own(step) and hasattr(step, "_get_tags"):  # scikit-learn before 1.6
        return _OLD_TAGS.get(tag, tag) in step._get_tags().get("X_types", ())
    if tags is None:
        return tag == "two_d_array"
    try:
        return bool(getattr(tags().input_tags, tag, False))
    except Exception:  # noqa: BLE001 - a class of the user's own may have tags that cannot be computed
        return tag == "two_d_array"


def _walk(at: Reader) -> Iterator[Reader]:
    inner = _inner(at.step)
    if inner:
        for estimator in inner:
            yield from _walk(replace(at, step=estimator))
    elif hasattr(at.step, "estimators_features_") and is_own(at.step):  # bagging
        for estimator, places in zip(at.step.estimators_, at.step.estimators_features_, strict=True):
            yield from _walk(Reader(estimator, _at(at.columns, places), at.is_series))
    elif getattr(at.step, "steps", None):
        yield from _walk_steps(at)
    elif getattr(at.step, "transformer_list", None):
        for _, transformer in at.step.transformer_list:
            if not isinstance(transformer, str):
                yield from _walk(replace(at, step=transformer))
    elif getattr(at.step, "transformers_", None):
        for _, branch in _branches(at):
            if not isinstance(branch.step, str):
                yield from _walk(branch)
    else:
        yield at


def _walk_steps(at: Reader) -> Iterator[Reader]:
    """The first step of a pipeline, and what follows as long as columns are handed on as they are."""
    for step in _asked_steps(at.step):
        here = replace(at, step=step)
        yield from _walk(here)
        handed_on = _passed_through(here)
        if handed_on is None:
            return
        at = Reader(at.step, handed_on, at.is_series)


def _asked_steps(pipeline: Any) -> list[Any]:
    """Without samplers, which leave the rows alone when the pipeline predicts."""
    steps = [step for _, step in pipeline.steps]
    return [step for step in steps if not (step is None or isinstance(step, str) or _samples(step))]


def _samples(step: Any) -> bool:
    return hasattr(step, "fit_resample")


def _passed_through(at: Reader) -> Columns | None:
    """What stands behind a step: columns with the values that it was given, and computed ones.

    None if all are computed, or nobody knows.
    """
    step, columns = at.step, at.columns
    name = type(step).__name__
    if isinstance(step, str):
        return columns if step == "passthrough" else None
    if not is_own(step):
        return None
    if name == "FunctionTransformer":
        return columns
    if name == "SimpleImputer":
        return _behind_imputer(step, columns)
    if hasattr(step, "get_support") and hasattr(step, "inverse_transform"):
        mask = np.asarray(step.get_support())
        return _at(columns, mask) if len(mask) == len(columns) else None
    if getattr(step, "steps", None):
        return _behind_steps(at)
    return _behind_branches(at) if hasattr(step, "output_indices_") else None


def _behind_imputer(step: Any, columns: Columns) -> Columns:
    """Without columns that had no value in training, and with those that say where one was missing."""
    statistics = getattr(step, "statistics_", ())
    if len(statistics) == len(columns) and not getattr(step, "keep_empty_features", False):
        columns = _at(columns, [value == value for value in statistics])
    indicator = getattr(step, "indicator_", None)
    return (*columns, *[COMPUTED] * (0 if indicator is None else len(indicator.features_)))


def _behind_steps(at: Reader) -> Columns | None:
    columns: Columns | None = at.columns
    for step in _asked_steps(at.step):
        if columns is None:
            break
        columns = _passed_through(Reader(step, columns, at.is_series))
    return columns


def _behind_branches(at: Reader) -> Columns | None:
    places: dict[str, slice] = at.step.output_indices_
    behind = [COMPUTED] * max((place.stop for place in places.values()), default=0)
    for name, branch in _branches(at):
        passed, place = _passed_through(branch), places[name]
        if passed is not None and len(passed) == place.stop - place.start:
            behind[place] = passed
    return tuple(behind) if any(behind) else None


def _branches(at: Reader) -> Iterator[tuple[str, Reader]]:
    """The parts of a fitted ColumnTransformer under their names, each with its columns."""
    own = getattr(at.step, "feature_names_in_", None)
    names = at.columns if own is None else tuple(map(str, own))
    # Its own names may be those that a step before has made: the place tells which column it is.
    known = at.columns if len(at.columns) == len(names) else names
    for name, transformer, columns in at.step.transformers_:
        if not (isinstance(transformer, str) and transformer == "drop"):
            is_series = isinstance(columns, str) or (np.ndim(columns) == 0 and not isinstance(columns, slice))
            yield name, Reader(transformer, _at(known, _places(names, columns)), is_series)


def _at(columns: Columns, places: Any) -> Columns:
    """The columns at these places, or where a mask is true."""
    return tuple(np.asarray(columns, dtype=object)[np.asarray(places)].tolist()) if len(places) else ()


def _places(names: Columns, columns: Any) -> list[int]:
    """Where the columns stand that a ColumnTransformer gives to one of its parts."""
    if isinstance(columns, slice) and (isinstance(columns.start, str) or isinstance(columns.stop, str)):
        start = names.index(columns.start) if columns.start is not None else 0
        stop = names.index(columns.stop) + 1 if columns.stop is not None else len(names)
        columns = slice(start, stop)
    chosen = columns if isinstance(columns, slice) else np.asarray(columns)
    if isinstance(chosen, slice) or chosen.dtype.kind in "iub":
        return np.atleast_1d(np.arange(len(names))[chosen]).tolist()  # type: ignore[no-any-return]
    return [names.index(str(name)) for name in chosen.ravel().tolist()]


def ends_of(model: Any, table: Any) -> Iterator[tuple[Any, Any]]:
    """The estimators at the end of pipelines and searches, and what each gets if the model gets this table.

    Of None they all get None.
    """
    if inner := _inner(model):
        for estimator in inner:
            yield from ends_of(estimator, table)
    elif steps := getattr(model, "steps", None):
        for _, step in steps[:-1]:
            if table is not None and hasattr(step, "transform"):
                table = step.transform(table)
        yield from ends_of(steps[-1][1], table)
    else:
        yield model, table


def _inner(step: Any) -> Sequence[Any] | None:
    """The fitted estimators to which a meta-estimator hands its rows; None if it is none."""
    if getattr(step, "best_estimator_", None) is not None:
        return [step.best_estimator_]
    attribute = _INNER.get(type(step).__name__)
    found = None if attribute is None or not is_own(step) else getattr(step, attribute, None)
    if found is None:
        return None
    inner = list(found) if isinstance(found, list | tuple) else [found]
    inner = [
        getattr(each, "estimator", each) if attribute == "calibrated_classifiers_" else each for each in inner
    ]
    inner = [
        each for each in inner if type(each).__name__ != "_ConstantPredictor" and not isinstance(each, str)
    ]
    # Each of a calibrator was fitted on other rows: a rare category may be in one of them only.
    is_many = type(step).__name__.startswith(("Voting", "Stacking", "Calibrated"))
    return inner if is_many else inner[:1]
