"""Reads messages of protobuf field by field, without their descriptions: ONNX files are such ones.

https://protobuf.dev/programming-guides/encoding. A message is a `memoryview`; `ValueError` for what is none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5
_SIGN, _MODULUS = 1 << 63, 1 << 64


def messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The fields of this number that hold bytes."""
    for number, value in fields(message):
        if number == wanted and not isinstance(value, int):
            yield value


def first_bytes(message: memoryview, wanted: int) -> bytes:
    """The first field of this number; empty if there is none."""
    return bytes(next(messages(message, wanted), b""))


def integers(message: memoryview, wanted: int) -> Iterator[int]:
    """The whole numbers in fields of this number, one in each or several."""
    for number, value in fields(message):
        if number != wanted:
            continue
        if isinstance(value, int):
            yield _signed(value)
            continue
        place = 0
        while place < len(value):  # several in one field
            each, place = _varint(value, place)
            yield _signed(each)


def floats(message: memoryview, wanted: int) -> Iterator[float]:
    """The numbers of four bytes in fields of this number, one in each or several."""
    for value in messages(message, wanted):
        yield from (number for (number,) in struct.iter_unpack("<f", value))


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """All fields in their order: their number, and a whole number or bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if kind == _SIZED:
            size, place = _varint(message, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of unknown kind {kind}")
        if size > len(message) - place:
            raise ValueError("a field ends behind the message")
        yield number, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits per byte, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # the last one
            return value, place
    raise ValueError("a number without an end")


def _signed(value: int) -> int:
    return value - _MODULUS if value & _SIGN else value
