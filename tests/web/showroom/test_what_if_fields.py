"""The fields of What if: what can be chosen, and how far a slider reaches."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from mlops_plugin.serving.references import Usual
from mlops_plugin.web.showroom.what_if_fields import Slider, field_of


@pytest.mark.parametrize(
    ("value", "usual", "slider"),
    [
        (0.3, Usual(0.4, 0.0, 1.0), Slider(0, 1, 0.01, 0.3, 0, 1)),
        (None, Usual(41, 17, 91), Slider(17, 91, 1, 41, 17, 91)),
        (5_000, Usual(100, 0, 99_999), Slider(0, 100_000, 100, 5_000, 0, 99_999)),
        (Decimal("1.50"), Usual(Decimal("1.00"), Decimal(-2), Decimal(3)), Slider(-2, 3, 0.01, 1.5, -2, 3)),
        # no more decimals than the column has
        (Decimal("0.5"), Usual(Decimal("0.3"), Decimal(0), Decimal("0.9")), Slider(0, 0.9, 0.1, 0.5, 0, 0.9)),
        (1.0, Usual(1.0, 1.0, 1.0), None),
        (1.0, Usual(1.0, float("-inf"), 1.0), None),
        (True, Usual(True, 0, 1), None),
        (1.0, Usual(0.0, 0.0, 1e-321), None),  # a step would be 0
        (float("nan"), Usual(0.4, 0.0, 1.0), Slider(0, 1, 0.01, 0.4, 0, 1)),
        ("x", Usual("x", None, None, ("x", "y")), None),
        (1.0, Usual(None, None, None), None),
        (1.0, None, None),
    ],
)
def test_a_slider_covers_the_known_range_in_round_steps(
    value: Any, usual: Usual | None, slider: Slider | None
) -> None:
    found = field_of("a", value, usual).slider
    assert (found is None) is (slider is None)
    if found is not None and slider is not None:
        assert vars(found) == pytest.approx(vars(slider))


def test_a_text_keeps_its_line_breaks() -> None:
    assert field_of("a", "one\ntwo", None).has_lines
    assert field_of("a", "one", Usual("one", None, None, ("one", "two\rthree"))).has_lines
    assert not field_of("a", "one", Usual("one", None, None, ("one", "two"))).has_lines


def test_a_category_offers_its_values_as_a_form_writes_them() -> None:
    assert field_of("a", "x", Usual("x", None, None, ("x", "y"))).choices == ("x", "y")
    assert field_of("a", None, Usual(True, None, None, (True, False))).choices == ("true", "false")
