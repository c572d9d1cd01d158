"""Values of cases as text: what is shown can be typed again."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest

from mlops_plugin.errors import CaseError
from mlops_plugin.serving.case_values import text_of, typed_value

SPAN = pa.duration("us")


@pytest.mark.parametrize(
    "span",
    [
        timedelta(hours=9, minutes=30),
        timedelta(hours=838, minutes=59, seconds=59),
        -timedelta(hours=838, minutes=59, seconds=59),
        timedelta(microseconds=1),
        -timedelta(microseconds=1),
        timedelta(0),
    ],
    ids=str,
)
def test_a_span_that_is_shown_can_be_typed(span: timedelta) -> None:
    assert typed_value("took", text_of(span), SPAN) == span


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("09:30", timedelta(hours=9, minutes=30)),
        ("-01:30:00.25", -timedelta(hours=1, minutes=30, milliseconds=250)),
        ("838:59:59", timedelta(hours=838, minutes=59, seconds=59)),
        (" 10:00:00 ", timedelta(hours=10)),
    ],
)
def test_a_span_is_typed_as_databases_write_it(text: str, span: timedelta) -> None:
    assert typed_value("took", text, SPAN) == span


def test_an_error_holds_no_more_than_the_beginning_of_a_long_value() -> None:
    with pytest.raises(CaseError, match="is not a valid double") as raised:
        typed_value("a", "x" * 10**6, pa.float64())
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("text", ["soon", "9", "9:60", "1:00:60", "9:30:00.1234567", "", "99999:00"])
def test_what_is_no_span_is_refused_with_the_column(text: str) -> None:
    with pytest.raises(CaseError, match="column 'took'"):
        typed_value("took", text, SPAN)
