"""The fields of What if: a feature of a case with a slider over its known range, or with its known values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mlops_plugin.config.schema import ImageConfig
from mlops_plugin.serving.case_values import text_of
from mlops_plugin.serving.references import Usual
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.written_values import format_value

_SLIDER_STEPS = 100  # at least; a step is a power of ten


@dataclass(frozen=True)
class Slider:
    """The range of a number, in round steps that reach past both of its ends."""

    least: float
    greatest: float
    step: float
    start: float
    # As they are: beyond them the model has seen nothing.
    known_least: float
    known_greatest: float


@dataclass(frozen=True)
class Field:
    """A feature that can be changed: by a slider if `slider` has its range, or by one of `choices`."""

    name: str
    value: str
    hint: str
    slider: Slider | None = None
    choices: tuple[str, ...] = ()

    @property
    def has_lines(self) -> bool:
        """Whether a field of one line, which drops line breaks, would change a value."""
        return any("\n" in text or "\r" in text for text in (self.value, *self.choices))


@dataclass(frozen=True)
class Drawing:
    """A picture to draw on: its size in pixels, and the values of its darkest and its brightest one."""

    width: int
    height: int
    least: float
    greatest: float


def drawing_of(
    image: ImageConfig | None, features: Sequence[str], usual: Mapping[str, Usual]
) -> Drawing | None:
    """None if the features are no picture, or no range of brightness is known."""
    if image is None or len(features) != image.width * image.height:
        return None
    known = [usual[name] for name in features if name in usual]
    ends = [(one.least, one.greatest) for one in known if _is_number(one.least) and _is_number(one.greatest)]
    if not ends:
        return None
    least, greatest = min(float(low) for low, _high in ends), max(float(high) for _low, high in ends)
    return Drawing(image.width, image.height, least, greatest) if least < greatest else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool) and math.isfinite(value)


def changes_of(form: Sequence[tuple[str, str]]) -> dict[str, str | None]:
    """The values (`set.NAME`) that differ from what they were (`was.NAME`); an empty one is NULL."""
    was = {name.removeprefix("was."): value for name, value in form if name.startswith("was.")}
    given = {name.removeprefix("set."): value for name, value in form if name.startswith("set.")}
    # Without a script, a browser sends two signs for each line break.
    return {
        name: value.replace("\r\n", "\n") or None for name, value in given.items() if value != was.get(name)
    }


def field_of(name: str, value: Any, usual: Usual | None) -> Field:
    """What a form offers for a feature of a case."""
    if usual is None or usual.reference is None:
        return Field(name, text_of(value), _("usual value unknown"))
    if usual.least is None:
        choices = tuple(filter(None, map(text_of, usual.choices)))  # an empty text looks like NULL
        hint = _("most common: %(value)s", value=format_value(usual.reference))
        return Field(name, text_of(value), hint, None, choices)
    hint = _(
        "median %(median)s, %(least)s to %(greatest)s",
        median=format_value(usual.reference),
        least=format_value(usual.least),
        greatest=format_value(usual.greatest),
    )
    return Field(name, text_of(value), hint, _slider(value, usual))


def _least_step(known: Any) -> float:
    """Between two values that a column can hold, which holds a known one with all its decimals."""
    if isinstance(known, Decimal):
        exponent = known.as_tuple().exponent
        return 10.0**exponent if isinstance(exponent, int) else 0.0
    return 1.0 if isinstance(known, int) else 0.0


def _slider(value: Any, usual: Usual) -> Slider | None:
    """None if the range is a single value, or has an end that is no number."""
    ends = (usual.least, usual.greatest, usual.reference)
    if not all(isinstance(end, int | float | Decimal) and not isinstance(end, bool) for end in ends):
        return None
    least, greatest = float(usual.least), float(usual.greatest)
    width = greatest - least
    if not (math.isfinite(width) and width / _SLIDER_STEPS > 0):
        return None
    step = 10.0 ** math.floor(math.log10(width / _SLIDER_STEPS))
    step = max(step, _least_step(usual.reference))
    if step == 0:  # between two numbers that are next to each other near 0
        return None
    start = value if _is_number(value) else usual.reference
    first, last = math.floor(least / step) * step, math.ceil(greatest / step) * step
    return Slider(first, last, step, float(start), least, greatest)
