"""SQL that finds texts which a typed engine compares with a printed moment otherwise than the two times.

An engine with types for times has texts of times, too, in columns of text or made by a function. It compares
those by their characters. Texts of one form have the order of their times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlops_plugin.databases.engines.sqlite_times import TimeComparison

_LITERAL = re.compile(
    r"(?P<base>\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?)(?P<fraction>\.\d+)?(?P<zone>[-+]\d\d:?\d\d|Z)?"
)
_ORDERS = ("<", "<=", ">", ">=")
_MIRRORED = {"<=": ">=", ">": "<"}
_HALF_OPEN = (">=", "<")  # a text that begins with the moment's is right: at or after it
_ZONES = ("%Z", "%+%", "%-%")
_UTC = ("%Z", "%+00:00")
_DATES = ("____-__-__", "____/__/__")
_SEPARATORS = ("-", "/", ":", ".", " ")


def is_right_text(side: TimeComparison) -> str:
    """SQL: whether a text (not NULL) compares with the moment as the two times do, or is empty."""
    value, literal = f"({side.value})", side.literal or ""
    ways = [f"{value} = ''"]
    if side.operator not in _ORDERS:  # a text that is no time equals none
        ways.append(" AND ".join(_unlike(value, f"{start}%") for start in (*_DATES, literal)))
    found = _LITERAL.fullmatch(literal)
    if found is None:  # digits only, or nearly: LIKE knows no digits
        absent = [sign for sign in _SEPARATORS if sign not in literal]
        ways.append(
            " AND ".join([_like(value, _form(literal)), *(_unlike(value, f"%{sign}%") for sign in absent)])
        )
    else:
        ways += _ways_of_a_time(side, found)
    return " OR ".join(f"({way})" for way in ways)


def _ways_of_a_time(side: TimeComparison, found: re.Match[str]) -> Iterator[str]:
    value, literal, base, zone = f"({side.value})", found[0], found["base"], found["zone"] or ""
    yield _like(value, _form(literal.removesuffix(zone)) + zone)
    form = _form(base)
    longer = [_like(value, f"{form}%"), _is_local(value, form, side.offset_s)]
    operator = _MIRRORED.get(side.operator, "") if side.is_moment_left else side.operator
    if operator in _HALF_OPEN and base == literal:
        yield " AND ".join(longer)
    elif not side.at_any_moment:  # what stands before the difference has one form
        yield " AND ".join([*longer, _unlike(value, f"{base}%")])


def _is_local(value: str, form: str, offset_s: int) -> str:
    """Whether a text that begins with the form has no offset, or that of the model's time zone: none."""
    ways = [" AND ".join(_unlike(value, form + tail) for tail in _ZONES)]
    if not offset_s:
        ways += [_like(value, form + tail) for tail in _UTC]
    return f"({' OR '.join(ways)})"


def _form(text: str) -> str:
    return re.sub(r"\d", "_", text)


def _like(value: str, pattern: str) -> str:
    return f"{value} LIKE '{pattern}'"


def _unlike(value: str, pattern: str) -> str:
    return f"{value} NOT LIKE '{pattern}'"
