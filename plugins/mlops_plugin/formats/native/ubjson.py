"""Whether a UBJSON file of XGBoost is whole: its own reader may run behind the end, or never return.

It writes objects with open ends, arrays with counts, and arrays of numbers of one type:
https://github.com/dmlc/xgboost/blob/master/src/common/json.cc. Nothing is read but sizes.
"""

from __future__ import annotations

_SIZES = {b"i": 1, b"U": 1, b"I": 2, b"l": 4, b"L": 8, b"d": 4, b"D": 8, b"C": 1} | dict.fromkeys(
    (b"T", b"F", b"Z", b"N"), 0
)
_INTEGERS = (b"i", b"U", b"I", b"l", b"L")
_TEXTS = (b"S", b"H")
_IN_OBJECT, _OPEN = -1, -2  # what is left of an array: a count, or until its end
_DEEPEST = 100  # levels; XGBoost has a dozen


def require_whole(content: bytes) -> None:
    """Raise `ValueError` if the file ends too early, or is no UBJSON as XGBoost writes it."""
    place = 0
    levels: list[int] = []
    while True:
        place = _value(content, place, levels)
        while levels:
            left = levels[-1]
            if left == 0 or content[place : place + 1] == {_IN_OBJECT: b"}", _OPEN: b"]"}.get(left):
                levels.pop()
                place += left != 0
                continue
            if left == _IN_OBJECT:
                size, place = _count(content, place)
                place += size
            elif left > 0:
                levels[-1] = left - 1
            break
        if not levels:
            break
    if place > len(content):
        raise ValueError(f"it has {len(content)} bytes and should have {place} or more")


def _value(content: bytes, place: int, levels: list[int]) -> int:
    """The place behind a value, or behind the beginning of one that `levels` has now."""
    kind, place = content[place : place + 1], place + 1
    if kind in _SIZES:
        return place + _SIZES[kind]
    if kind in _TEXTS:
        size, place = _count(content, place)
        return place + size
    if len(levels) == _DEEPEST:
        raise ValueError(f"it has more than {_DEEPEST} levels")
    if kind == b"{":
        levels.append(_IN_OBJECT)
        return place
    if kind != b"[":
        raise ValueError("it ends too early" if not kind else f"byte {place - 1} begins nothing of UBJSON")
    if content.startswith(b"#", place):
        count, place = _count(content, place + 1)
        levels.append(count)
        return place
    if content.startswith(b"$", place):
        kind = content[place + 1 : place + 2]
        if kind not in _SIZES or not content.startswith(b"#", place + 2):
            raise ValueError(f"byte {place} begins no array of numbers")
        count, place = _count(content, place + 3)
        return place + count * _SIZES[kind]
    levels.append(_OPEN)
    return place


def _count(content: bytes, place: int) -> tuple[int, int]:
    """A count, and the place behind it."""
    kind = content[place : place + 1]
    if kind not in _INTEGERS:
        raise ValueError(f"there is no count at byte {place}" if kind else "it ends too early")
    end = place + 1 + _SIZES[kind]
    count = int.from_bytes(content[place + 1 : end], "big", signed=kind != b"U")
    if end > len(content) or not 0 <= count <= len(content):
        raise ValueError(f"the count at byte {place} is more than the file has")
    return count, end
