"""Numbers, durations and states as the pages write them."""

from __future__ import annotations

MISSING = "\N{EN DASH}"

# Ours -> the badge's look in mlops.css; the word itself always stands in the badge.
BADGES = {"running": "badge-info", "succeeded": "badge-ok", "failed": "badge-bad"}


def count(number: int | None) -> str:
    """1,234,567"""
    return MISSING if number is None else f"{number:,}"


def number(value: float) -> str:
    """Four digits that matter: 0.001234, 1,234, 123,457, 1.234e+09"""
    is_whole = value == int(value) or abs(value) >= 1e3
    return f"{value:,.0f}" if is_whole and abs(value) < 1e6 else f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """0.25 s, 9.1 s, 2 min 5 s, 3 h 4 min, 2 d 3 h"""
    if seconds is None:
        return MISSING
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, part_size, part in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // part_size
            return f"{whole // size} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"
