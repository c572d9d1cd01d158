"""Values as the language of the page writes them: `formatting`, with its signs and its words.

The digits are always those of `formatting`; only the signs for decimals and groups are exchanged.
"""

from __future__ import annotations

import json
import math
from calendar import day_name, month_name
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

from babel.dates import format_skeleton

from mlops_plugin import formatting
from mlops_plugin.formatting import format_period as format_period
from mlops_plugin.web.languages.catalogues import ENGLISH, LANGUAGES
from mlops_plugin.web.languages.translation import current_code, current_language
from mlops_plugin.web.languages.translation import gettext as _

_MOST_DIGITS = 17  # of a double
_SAME = 1e-12  # of the greatest of some numbers: they differ by what arithmetic makes
_MOST_CHARS = 500  # of a value: a column may hold documents, of which a page would show hundreds


def format_count(number: int | None) -> str:
    """`1,234,567`"""
    return _signed(formatting.format_count(number))


def format_number(value: float | None) -> str:
    """Four significant digits."""
    return _signed(formatting.format_number(value))


def format_like(value: float, greatest: float) -> str:
    """With the decimals of the greatest of several numbers."""
    return _signed(formatting.format_like(value, greatest))


def format_duration(seconds: float | None) -> str:
    """A measured duration: `0.25 s`"""
    return _signed(formatting.format_duration(seconds))


def format_latency(seconds: float | None) -> str:
    """`1,234.5 ms`"""
    return _signed(formatting.format_latency(seconds))


def format_share(share: float) -> str:
    """A share of 0 to 1: `12.3%`"""
    return _signed(formatting.format_share(share))


def format_availability(share: float) -> str:
    """A share of 0 to 1 that is never rounded up to `100 %`."""
    return _signed(formatting.format_availability(share))


def format_distance(until: timedelta) -> str:
    """How far away a moment is: `in 5 min`, or `2 min ago` if it has passed."""
    if until >= timedelta(0):
        return _("in %(time)s", time=format_period(until))
    return _("%(time)s ago", time=format_period(-until))


def format_value(value: Any) -> str:
    """A value of a row; of a number with decimals, the sign before them. A long text ends with `…`."""
    text = formatting.format_value(value)
    if len(text) > _MOST_CHARS:
        return f"{text[:_MOST_CHARS]}…"
    return _signed(text) if isinstance(value, float | Decimal) else text


def format_cell(value: Any) -> str:
    """A value that is shown as a database's driver gives it, with the same sign."""
    return _signed(str(value)) if isinstance(value, float | Decimal) else str(value)


def format_apart(one: Any, other: Any) -> tuple[str, str]:
    """Two values of rows; those that differ, but look alike, with all their digits, or as text in quotes."""
    texts = format_value(one), format_value(other)
    is_seen = texts[0].split() != texts[1].split()  # a page shows any blanks as one
    return texts if is_seen or are_equal(one, other) else (_in_full(one), _in_full(other))


def are_equal(one: Any, other: Any) -> bool:
    """Two values that are NaN are."""
    return bool(one == other or (one != one and other != other))


def _in_full(value: Any) -> str:
    if isinstance(value, float | Decimal):
        return format_cell(value)
    text = format_value(value)
    return json.dumps(text, ensure_ascii=False) if isinstance(value, str) else text


def format_numbers(values: Sequence[float]) -> list[str]:
    """Four significant digits, or as many more as it takes to see how the numbers differ."""
    greatest, spread = max(map(abs, values)), max(values) - min(values)
    digits = 4
    if math.isfinite(spread) and spread > _SAME * greatest:
        digits = min(_MOST_DIGITS, math.ceil(math.log10(greatest / spread)) + 3)
    if digits <= 4:
        return [format_number(value) for value in values]
    return [_signed(f"{value:,.{digits}g}") for value in values]


def format_day(day: datetime) -> str:
    """`Mar 1`"""
    return format_skeleton("MMMd", day, locale=current_language().locale)


def format_month(day: datetime) -> str:
    """`Mar 2026`"""
    return format_skeleton("yMMM", day, locale=current_language().locale)


def describe_cron(expression: str) -> str:
    """A cron expression in words: `at 08:30 AM, Monday through Friday`"""
    return _described_cron(expression, current_code())


@lru_cache(maxsize=1000)
def _described_cron(expression: str, code: str) -> str:
    from cron_descriptor import Options, get_description  # type: ignore[import-untyped]  # Airflow's

    options = Options()
    options.locale_code = LANGUAGES[code].cron
    options.use_24hour_time_format = code != ENGLISH
    text = str(get_description(expression, options))
    # The library takes the names of days and months from the machine's locale, not from its own catalogue.
    locale = LANGUAGES[code].locale
    days, months = locale.days["format"]["wide"], locale.months["format"]["wide"]
    own = {name: days[number] for number, name in enumerate(day_name)}
    own |= {name: months[number] for number, name in enumerate(month_name) if name}
    for name, translated in own.items():
        text = text.replace(name, translated)
    return f"{text[:1].lower()}{text[1:]}"


def _signed(text: str) -> str:
    code = current_code()
    return text if code == ENGLISH else text.translate(_signs(code))


@cache
def _signs(code: str) -> dict[int, str]:
    signs = LANGUAGES[code].locale.number_symbols["latn"]
    return str.maketrans({",": signs["group"], ".": signs["decimal"]})
