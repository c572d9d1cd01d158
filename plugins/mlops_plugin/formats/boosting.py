"""What the wrappers of LightGBM, XGBoost and CatBoost know of the columns of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import FeatureError
from mlops_plugin.formats.column_values import ColumnSpec
from mlops_plugin.formats.native.catboost_categories import CategoryWriting, is_believed
from mlops_plugin.formats.native.lightgbm_categories import LightGBMCategories
from mlops_plugin.formats.native.xgboost_categories import kept_categories, require_whole_texts

Look = Callable[[Any], None]
Ends = Callable[[Any], Iterator[tuple[Any, Any]]]
_PACKAGES = ("lightgbm", "xgboost", "catboost")


def is_boosting(step: Any) -> bool:
    """Whether one of the three packages wrote the estimator."""
    return _package(step) in _PACKAGES


def has_categories(step: Any) -> bool:
    """Whether the estimator was trained on a column of categories."""
    match _package(step):
        case "lightgbm":
            return bool(_lightgbm_booster(step).pandas_categorical)
        case "xgboost":
            return "c" in (step.get_booster().feature_types or ())
        case "catboost":
            return bool(step.get_cat_feature_indices() or _text_indices(step))
    return False


def takes_unknown_categories(step: Any) -> str | None:
    """What an estimator takes a category for that training did not have: `missing`, `other` or None."""
    native = getattr(step, "native", None)  # of a library's own file
    package = (
        _package(step) if native is None else type(native).__module__.rpartition(".")[2].partition("_")[0]
    )
    is_histogram = package == "sklearn" and type(step).__name__.startswith("HistGradientBoosting")
    return {"lightgbm": "missing", "catboost": "other"}.get(package, "missing" if is_histogram else None)


def is_bare_xgboost(model: Any) -> bool:
    """Whether the model is XGBoost's Booster, which reads a table of its own, a `DMatrix`."""
    return _package(model) == "xgboost" and not hasattr(model, "get_booster")


def names_of_boosting(step: Any) -> tuple[str, ...] | None:
    """The names of the columns of training, of what keeps them under an attribute of its own."""
    match _package(step):
        case "catboost":
            names, unnamed = tuple(map(str, step.feature_names_ or ())), ""
        case "lightgbm":
            names, unnamed = tuple(_lightgbm_booster(step).feature_name()), "Column_"
        case _:
            return None
    # Without names, they number their columns.
    return None if names == tuple(f"{unnamed}{number}" for number in range(len(names))) else names


def named_categories_of_boosting(step: Any) -> dict[str, list[Any]]:
    """The categories that LightGBM knows, by their columns; none if it does not tell whose they are.

    XGBoost refuses other categories itself, and CatBoost's are looked at as rows come (`category_writing`).
    """
    if _package(step) != "lightgbm" or not has_categories(step):
        return {}
    booster = _lightgbm_booster(step)
    names = booster.feature_name()
    return {names[place]: known for place, known in _known_by_lightgbm(booster).lists.items()}


def column_of_boosting(
    step: Any, columns: tuple[str, ...], field: pa.Field, rows: pa.Schema, dtypes: Mapping[str, str]
) -> ColumnSpec | None:
    """The column as one of these estimators read it in training; None if it is a number, or of no concern.

    `dtypes`: what the configuration says of columns. Raises `FeatureError` if the estimator does not record
    which categories belong to the column.
    """
    if not is_boosting(step) or not has_categories(step):
        return None
    if columns.count(field.name) != 1:
        is_text = _package(step) == "catboost" and pa.types.is_string(field.type)
        return ColumnSpec(field.name, "text", "nan") if is_text else None
    place = columns.index(field.name)
    match _package(step):
        case "lightgbm":
            categories = _lightgbm_categories(step, columns, rows, dtypes).get(place)
            unknown = "missing"  # as LightGBM does itself
        case "xgboost":
            categories = _xgboost_categories(step, field.name).get(place)
            require_whole_texts(field.name, categories or [])
            unknown = "refused"
        case _:
            return _catboost_column(step, place, field)
    if categories is None:
        return ColumnSpec(field.name, "float64", "nan")
    return ColumnSpec(field.name, "category", "nan", tuple(categories), unknown=unknown)  # type: ignore[arg-type]


def category_writing(ends: Ends, features: tuple[str, ...], dtypes: Mapping[str, str]) -> Look | None:
    """Refuses a table with categories that training wrote otherwise; None: the model reads no such ones.

    `ends`: see `estimator_walk.ends_of`. `dtypes`: what the configuration says of columns, which is believed.
    """
    looks = [_look_of(step, features, dtypes) for step, _ in ends(None)]
    if not any(looks):
        return None

    def look(make_table: Callable[[], Any]) -> None:
        if any(of_end and not of_end.is_done for of_end in looks):
            for of_end, (step, given) in zip(looks, ends(make_table()), strict=True):
                if of_end is not None:
                    of_end.require_that_of_training(given, partial(_raw_answers, step))

    return look


def _look_of(step: Any, features: tuple[str, ...], dtypes: Mapping[str, str]) -> CategoryWriting | None:
    if _package(step) != "catboost":
        return None
    names = dict(enumerate(names_of_boosting(step) or features))
    of_place = {place: dtypes.get(names.get(place, "")) for place in step.get_cat_feature_indices()}
    places = [place for place, dtype in of_place.items() if not is_believed(dtype)]
    return CategoryWriting(places, features)


def _raw_answers(step: Any, rows: Any) -> np.ndarray[Any, Any]:
    plain = import_module("catboost").CatBoost  # a ranker's own method takes no type of answers
    return np.asarray(plain.predict(step, rows, prediction_type="RawFormulaVal"))


def _lightgbm_booster(step: Any) -> Any:
    """The Booster inside of a wrapper of scikit-learn's kind, or the one that the model itself is."""
    return getattr(step, "booster_", step)


def _lightgbm_categories(
    step: Any, columns: tuple[str, ...], rows: pa.Schema, dtypes: Mapping[str, str]
) -> dict[int, list[Any]]:
    known = _known_by_lightgbm(_lightgbm_booster(step))
    # What another step has made is no column of the query.
    fields = [rows.field(name) if name in rows.names else pa.field(name, pa.null()) for name in columns]
    return known.by_place(fields, dtypes)


def _known_by_lightgbm(booster: Any) -> LightGBMCategories:
    return LightGBMCategories(booster.model_to_string(num_iteration=1), booster.pandas_categorical)


def _xgboost_categories(step: Any, name: str) -> dict[int, list[Any]]:
    booster = step.get_booster()
    known = kept_categories(booster) if hasattr(booster, "get_categories") else None
    if known is None:
        raise FeatureError(
            f"XGBoost kept no categories for '{name}'; train and save the model with XGBoost 3.1 or later, "
            "or encode the column in a pipeline"
        )
    return known


def _catboost_column(step: Any, place: int, field: pa.Field) -> ColumnSpec:
    if place in _text_indices(step):
        return ColumnSpec(field.name, "text", "nan")
    if place not in step.get_cat_feature_indices():
        return ColumnSpec(field.name, "float64", "nan")
    # CatBoost hashes the text of a category: 1 and 1.0 are two.
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_integer(kind):
        return ColumnSpec(field.name, "int64", "nan")
    if pa.types.is_boolean(kind):
        return ColumnSpec(field.name, "bool", "none")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return ColumnSpec(field.name, "text", "nan")
    raise FeatureError(
        f"CatBoost's categories are texts or whole numbers, but '{field.name}' is {kind}; "
        "cast it in the query"
    )


def _text_indices(step: Any) -> list[int]:
    read = getattr(step, "get_text_feature_indices", None)
    return list(read()) if read else []


def _package(step: Any) -> str:
    return type(step).__module__.partition(".")[0]
