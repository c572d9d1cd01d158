"""The first and last key of a dispatch, for every type a key can have."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_plugin.errors import KeyColumnError
from mlops_plugin.pipeline.reading.key_range import KeyRange


def range_of(*batches: dict[str, Any], key: tuple[str, ...] = ("k",)) -> KeyRange:
    found = KeyRange("churn", key)
    for batch in batches:
        found.see(pa.RecordBatch.from_pydict(batch))
    return found


@pytest.mark.parametrize(
    ("values", "first", "last"),
    [
        ([3, 1, 2], 1, 3),
        (["b", "ä", "a"], "a", "ä"),
        ([date(2026, 2, 1), date(2026, 1, 1)], "2026-01-01", "2026-02-01"),
        ([datetime(2026, 1, 1, tzinfo=UTC)], "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"),
        ([Decimal("2.50"), Decimal("10.00")], "2.50", "10.00"),
        ([b"\x02", b"\x01"], "01", "02"),
        ([True, False], False, True),
    ],
)
def test_first_and_last_key_are_json_values(values: list[Any], first: Any, last: Any) -> None:
    found = range_of({"k": values})
    assert (found.first, found.last) == ({"k": first}, {"k": last})


def test_no_rows_have_no_range() -> None:
    found = range_of({"k": pa.array([], pa.int64())})
    assert found.first is found.last is None


def test_null_key_is_refused_with_its_column_and_count() -> None:
    with pytest.raises(KeyColumnError, match=r"models\.churn\.key: .*'k'.*NULL.*\b2 of 3"):
        range_of({"k": [1, None, None]})


def test_type_without_order_has_no_range_but_passes() -> None:
    found = range_of({"k": pa.array(["a", "b"], pa.string_view())})
    assert found.first is None


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.text(max_size=3)), min_size=1), min_size=1))
def test_compound_range_over_batches_equals_that_of_all_rows(chunks: list[list[tuple[int, str]]]) -> None:
    batches = [{"a": [row[0] for row in chunk], "b": [row[1] for row in chunk]} for chunk in chunks]
    found = range_of(*batches, key=("a", "b"))
    rows = [row for chunk in chunks for row in chunk]
    assert (found.first, found.last) == (
        dict(zip("ab", min(rows), strict=True)),
        dict(zip("ab", max(rows), strict=True)),
    )
