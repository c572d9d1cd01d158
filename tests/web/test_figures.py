"""Numbers as the pages write them."""

from __future__ import annotations

import pytest

from mlops_plugin.web import figures


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0012344, "0.001234"),
        (12.0, "12"),
        (1234.56, "1,235"),
        (123_456.7, "123,457"),
        (50_000.0, "50,000"),
        (-32_361.2, "-32,361"),
        (1.2344e9, "1.234e+09"),
    ],
)
def test_a_number_has_the_digits_that_matter(value: float, written: str) -> None:
    assert figures.number(value) == written
