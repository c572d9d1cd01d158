"""Reads JSON into frozen dataclasses by their types: what a signature needs, and no library for it.

A signature is read where the model runs, which may be an environment of the model's own.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_Record = TypeVar("_Record")
_hints = functools.cache(functools.partial(get_type_hints, include_extras=True))


class Misread(ValueError):
    """A value is not of its type; `place` is where it stands: `outputs.0.kind`, '' for the whole."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


def read_record(kind: type[_Record], value: object) -> _Record:
    """The record that JSON describes; names that it does not know are ignored. Raises `Misread`."""
    record: _Record = _read(kind, value, "")
    return record


def _read(kind: Any, value: object, place: str) -> Any:
    """`value` as `kind`: a record, one of several, lists, tuples and sets of them, or a plain type."""
    if is_dataclass(kind):
        return _read_fields(kind, value, place)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _decoded(arguments[1], value, place)
    if origin in (Union, types.UnionType):  # of something and None
        return None if value is None else _read(arguments[0], value, place)
    if origin is Literal:
        if isinstance(value, bool) or value not in arguments:
            raise Misread(place, f"it must be {' or '.join(map(repr, arguments))}")
        return value
    if origin in (tuple, frozenset, list):
        if not isinstance(value, list):
            raise Misread(place, "it must be a list")
        return origin(_read(arguments[0], item, _below(place, n)) for n, item in enumerate(value))
    if origin is dict:
        named = _named(value, place)
        return {
            _read(arguments[0], name, place): _read(arguments[1], item, _below(place, name))
            for name, item in named.items()
        }
    return _plain(kind, value, place)


def _read_fields(kind: Any, value: object, place: str) -> Any:
    named, hints = _named(value, place), _hints(kind)
    found = {}
    for field in fields(kind):
        if field.name in named:
            found[field.name] = _read(hints[field.name], named[field.name], _below(place, field.name))
        elif field.default is MISSING and field.default_factory is MISSING:
            raise Misread(_below(place, field.name), "it is missing")
    try:
        return kind(**found)
    except Misread:
        raise
    except ValueError as error:
        raise Misread(place, str(error)) from error


def _decoded(decode: Callable[[object], Any], value: object, place: str) -> Any:
    try:
        return decode(value)
    except (ValueError, TypeError, ArithmeticError, KeyError) as error:
        raise Misread(place, str(error)) from error


def _plain(kind: Any, value: object, place: str) -> Any:
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise Misread(place, "it is too large a number") from error
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Misread(place, f"it must be {'true or false' if kind is bool else f'of type {kind.__name__}'}")
    return value


def _named(value: object, place: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Misread(place, "it must be an object with names")
    return value


def _below(place: str, name: object) -> str:
    return f"{place}.{name}" if place else str(name)
