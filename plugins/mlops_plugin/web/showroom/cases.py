"""A page of cases as the Showroom writes it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.serving.cases import MAX_PAGE_ROWS, MOST_COUNTED, CasePage, CaseView
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import ngettext
from mlops_plugin.web.languages.written_values import format_count, format_value
from mlops_plugin.web.showroom.picture import data_uri
from mlops_plugin.web.showroom.results import key_json, place_text

PAGE_SIZES = (25, 100, MAX_PAGE_ROWS)  # cases of a page: what it offers, the usual size first
_MANY_INPUTS = 4  # columns of features; fewer need no button to fold them away


def present_cases(
    model: ModelConfig, page: CasePage, view: CaseView, features: tuple[str, ...] | None
) -> dict[str, Any]:
    """The page's columns, rows and links; `features` are None before the model is loaded."""
    names: list[str] = page.rows.column_names
    image = model.showroom.image
    numeric = _numbers(page.rows.schema)
    pixels = _pixels(model, names, features, numeric)
    truth = model.showroom.truth
    first = [*model.key, *([truth] if truth in names and truth not in model.key else [])]
    shown = [*first, *(name for name in names if name not in {*first, *pixels})]
    inputs = _inputs(model, shown, features)
    rows = [
        {
            "key": key_json(tuple(row[name] for name in model.key)),
            "label": " / ".join(format_value(row[name]) for name in model.key),
            "cells": [
                (format_value(row[name]), name in numeric, name in inputs, row[name] is None)
                for name in shown
            ],
            "picture": data_uri([row[n] for n in pixels], image.width, image.height) if image else None,
        }
        for row in page.rows.to_pylist()
    ]
    return {
        "leading": len(first),  # the last prediction stands behind these columns
        "found": count_words(len(rows)) if page.previous is None and page.next is None else None,
        "columns": [
            _column(name, model, view, is_number=name in numeric) | {"is_input": name in inputs}
            for name in shown
        ],
        "inputs": len(inputs) if len(inputs) >= _MANY_INPUTS else 0,
        "rows": rows,
        "has_pictures": bool(pixels),
        "previous": _link(view, before=place_text(page.previous)) if page.previous else None,
        "next": _link(view, after=place_text(page.next)) if page.next else None,
    }


def count_words(count: int) -> str:
    """How many cases were found."""
    if count > MOST_COUNTED:
        return _("more than %(count)s cases", count=format_count(MOST_COUNTED))
    return ngettext("%(count)s case", "%(count)s cases", count, count=format_count(count))


def _inputs(model: ModelConfig, shown: list[str], known: tuple[str, ...] | None) -> set[str]:
    """The columns that the model reads, as far as they are known: they can be folded away together."""
    others = {*model.key, model.showroom.truth, *model.showroom.search}
    cursor = _cursor(model)
    return {n for n in shown if n not in others and (n != cursor if known is None else n in known)}


def _cursor(model: ModelConfig) -> str | None:
    return model.source.cursor.column if model.source.cursor else None


def _pixels(
    model: ModelConfig, names: list[str], known: tuple[str, ...] | None, numeric: set[str]
) -> tuple[str, ...]:
    """The columns that are a picture; before the model is loaded, if as many columns are numbers."""
    image = model.showroom.image
    if image is None:
        return ()
    others = {*model.key, model.showroom.truth, *model.showroom.search, _cursor(model)}
    features = known or tuple(name for name in names if name in numeric and name not in others)
    fits = len(features) == image.width * image.height and set(features) <= set(names)
    return features if fits else ()


def _numbers(columns: pa.Schema) -> set[str]:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return {field.name for field in columns if any(test(field.type) for test in tests)}


def _column(name: str, model: ModelConfig, view: CaseView, *, is_number: bool) -> dict[str, Any]:
    is_sorted = view.sort == name or (view.sort is None and model.key[0] == name)
    order = "none"
    if is_sorted:
        order = "descending" if view.is_descending else "ascending"
    return {
        "name": name,
        "is_number": is_number,
        "is_key": name in model.key,
        "is_truth": name == model.showroom.truth,
        "order": order,
        "link": _link(view, sort=name, descending=is_sorted and not view.is_descending),
    }


def _link(view: CaseView, **changes: Any) -> str:
    query = {
        "search": view.search,
        "sort": view.sort or "",
        "descending": str(view.is_descending).lower(),
        "page_rows": "" if view.page_rows == PAGE_SIZES[0] else str(view.page_rows),
        **changes,
    }
    return "?" + urlencode(
        {name: value for name, value in query.items() if value not in ("", False, "false")}
    )
