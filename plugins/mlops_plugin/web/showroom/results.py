"""What a Showroom run looks like: presenters between `serving.run` and the templates."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shlex
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.serving.case_paging import Place
from mlops_plugin.serving.case_values import text_of
from mlops_plugin.serving.run import Rejection, Shown
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import word_of
from mlops_plugin.web.languages.written_values import (
    are_equal,
    format_apart,
    format_share,
    format_value,
)
from mlops_plugin.web.showroom.picture import data_uri
from mlops_plugin.web.showroom.verdict import agrees

_ONE_OF_SEVERAL = re.compile(r"prediction_\d+", re.ASCII)
REJECTED = "rejected"  # instead of a prediction; in a CSV file always so
# A spreadsheet runs text that starts with these.
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True)
class Bar:
    """A probability; `share` is 0 to 1."""

    label: str
    share: float
    text: str
    before: str = ""  # what-if: the value before the change


@dataclass(frozen=True)
class Outcome:
    """The result of one row. `agrees` is None if the truth is unknown."""

    key: tuple[tuple[str, str], ...]
    key_json: str
    prediction: str
    others: tuple[tuple[str, str], ...]  # scores, further outputs
    bars: tuple[Bar, ...]
    truth: str | None
    agrees: bool | None
    picture: str | None
    changes: tuple[tuple[str, str, str], ...] = ()  # what-if: column, was, is
    was: str | None = None  # what-if: the prediction before
    rejections: tuple[str, ...] = ()  # why there is no prediction


def outcomes(
    model: ModelConfig, shown: Shown, features: tuple[str, ...], *, is_what_if: bool
) -> list[Outcome]:
    """The results in order; of a what-if, one for each pair of rows (as they are, changed)."""
    rows, answers = shown.rows.to_pylist(), shown.answers
    count = (len(rows) - shown.on_curve) // 2 if is_what_if else len(rows)
    found = []
    for n in range(count):
        last = n + count if is_what_if else n
        if is_what_if:
            outcome = _changed_outcome(model, features, (rows[n], answers[n]), (rows[last], answers[last]))
        else:
            outcome = _outcome(model, features, rows[n], answers[n], None)
        why = tuple(_rejection_words(one) for one in shown.rejections if one.row == last)
        found.append(replace(outcome, rejections=why))
    return found


def _rejection_words(one: Rejection) -> str:
    """As a person reads it; the reason itself is the contract's or the model's."""
    column = "" if one.column is None else f"{one.column}: "
    found = "" if one.value is None else _("(found %(value)s)", value=one.value)
    return f"{column}{one.reason} {found}".rstrip()


def _rejection_text(one: Rejection) -> str:
    column = "" if one.column is None else f"{one.column}: "
    return f"{column}{one.reason}" + ("" if one.value is None else f" (found {one.value})")


def _changed_outcome(
    model: ModelConfig,
    features: tuple[str, ...],
    before: tuple[dict[str, Any], dict[str, Any] | None],
    after: tuple[dict[str, Any], dict[str, Any] | None],
) -> Outcome:
    plain = _outcome(model, features, after[0], after[1], before[1])
    changes = tuple(
        (name, *format_apart(before[0][name], value))
        for name, value in after[0].items()
        if not are_equal(value, before[0][name])
    )
    was, now = _prediction(before[1]), plain.prediction
    if before[1] is not None and after[1] is not None:
        pairs = zip(_predicted(before[1]), _predicted(after[1]), strict=True)
        apart = [format_apart(one, other) for one, other in pairs]
        was, now = (", ".join(texts) for texts in zip(*apart, strict=True))
    return Outcome(
        **{
            **vars(plain),
            "prediction": now,
            "truth": None,
            "agrees": None,
            "changes": changes,
            "was": was,
        }
    )


def _outcome(
    model: ModelConfig,
    features: tuple[str, ...],
    row: dict[str, Any],
    answered: dict[str, Any] | None,
    answered_before: dict[str, Any] | None,
) -> Outcome:
    answer, before = answered or {}, answered_before or {}
    names = [name for name in answer if name not in model.key]
    chances = [name for name in names if name.startswith("probability_")]
    bars = sorted(
        (_probability(name, answer[name], before.get(name)) for name in chances),
        key=lambda bar: bar.share,
        reverse=True,
    )
    truth = None if model.showroom.truth is None else row.get(model.showroom.truth)
    key = tuple(row.get(name) for name in model.key)
    image = model.showroom.image
    pixels = [row.get(name) for name in features]
    return Outcome(
        key=tuple((name, format_value(value)) for name, value in zip(model.key, key, strict=True)),
        key_json=key_json(key),
        prediction=_prediction(answered),
        others=tuple(
            (name, format_value(answer[name]))
            for name in names
            if name not in chances and name != "prediction"
        ),
        bars=tuple(bars),
        truth=None if truth is None else format_value(truth),
        agrees=agrees(answered, truth),
        picture=data_uri(pixels, image.width, image.height) if image else None,
    )


def _prediction(answer: dict[str, Any] | None) -> str:
    return word_of(REJECTED) if answer is None else ", ".join(map(format_value, _predicted(answer)))


def _predicted(answer: dict[str, Any]) -> list[Any]:
    """The prediction, or those of several outputs in their order; at least one."""
    several = [value for name, value in answer.items() if _ONE_OF_SEVERAL.fullmatch(name)]
    return several if several and "prediction" not in answer else [answer.get("prediction")]


def _probability(name: str, value: float | None, before: float | None) -> Bar:
    share = min(max(value or 0.0, 0.0), 1.0)
    was = "" if before is None else format_share(before)
    return Bar(name.removeprefix("probability_"), share, format_share(share), was)


def key_json(key: tuple[Any, ...]) -> str:
    """A key as forms and links carry it."""
    return json.dumps([text_of(value) for value in key], ensure_ascii=False)


def place_text(place: Place) -> str:
    """A place among the cases as an address carries it."""
    return json.dumps([place.is_null, *map(text_of, place.key)], ensure_ascii=False)


def csv_text(shown: Shown, model: ModelConfig) -> str:
    """Rows and predictions side by side; text that a spreadsheet would run gets an apostrophe."""
    key = set(model.key)
    names = [name for name in shown.predictions.column_names if name not in key]
    out = io.StringIO()
    writer = csv.writer(out)
    reasons = [REJECTED] if shown.rejections else []
    writer.writerow(map(_cell, ["dispatch_id", *shown.rows.column_names, *names, *reasons]))
    for number, (row, answer) in enumerate(zip(_values(shown.rows), shown.answers, strict=True)):
        values = [_cell((answer or {}).get(name)) for name in names]
        why = "; ".join(_rejection_text(one) for one in shown.rejections if one.row == number)
        writer.writerow([shown.dispatch_id, *row, *values, *([_cell(why)] if reasons else [])])
    return out.getvalue()


def csv_uri(shown: Shown, model: ModelConfig) -> str:
    """The CSV inside a link: the rows of a run are not stored."""
    content = base64.b64encode(csv_text(shown, model).encode()).decode()
    return f"data:text/csv;charset=utf-8;base64,{content}"


def curl_command(address: str, request: dict[str, Any]) -> str:
    """The same request for a terminal, with the token in the variable TOKEN."""
    body = shlex.quote(json.dumps(request, ensure_ascii=False))
    return (
        f'curl -sS {shlex.quote(address)} \\\n  -H "Authorization: Bearer $TOKEN" \\\n'
        f"  -H 'Content-Type: application/json' \\\n  -d {body}"
    )


def _values(rows: pa.Table) -> list[list[str]]:
    return [[_cell(value) for value in row.values()] for row in rows.to_pylist()]


def _cell(value: Any) -> str:
    text = text_of(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA_SIGNS) else text
