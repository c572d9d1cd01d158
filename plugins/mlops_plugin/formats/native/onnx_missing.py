"""Which columns of an ONNX model may miss a value: NaN is followed through the graph, from inputs to outputs.

Trees send a NaN along a branch for numbers, and labels hide it: where training would have refused a row, such
a graph answers it. Whatever was made for missing values takes a NaN away: imputers, comparisons with NaN,
and trees that know where to send it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlops_plugin.formats.native.protobuf import fields, first_bytes, floats, integers, messages

_INPUT, _OUTPUT, _OP, _ATTRIBUTE = 1, 2, 4, 5  # NodeProto
_NAME, _FLOAT, _INTEGER, _GRAPH, _FLOATS, _INTEGERS, _GRAPHS = 1, 2, 3, 6, 7, 8, 11  # AttributeProto
_MISSING_BRANCH = b"nodes_missing_value_tracks_true"  # of trees: 1 if a missing value goes where true goes
_REPLACED, _KEYS = b"replaced_value_float", b"keys_floats"
_TELLS_MISSING = b"IsNaN"
_NOT_OF_VALUES = (b"Shape", b"Size")
_SAME_COLUMNS = (b"Add", b"Cast", b"Div", b"Identity", b"Mul", b"Scaler", b"Sub")
_CHOOSES = (b"ArrayFeatureExtractor", b"Gather")
_MOST_COLUMNS = 100_000

Features = frozenset[int]  # places of the model's features
_NONE: Features = frozenset()


@dataclass(frozen=True)
class Traced:
    """The features whose NaN may be in a tensor; `columns`: in each column, if its columns are known."""

    all: Features
    columns: tuple[Features, ...] | None = None


def features_that_reach(
    outputs: Iterable[str],
    nodes: Sequence[memoryview],
    constants: Mapping[bytes, Sequence[int]],
    inputs: Mapping[str, Sequence[int]],
) -> Features:
    """The features whose NaN reaches an output, through nothing that was made for missing values.

    `constants`: whole numbers by name; `inputs`: the features in the columns of each input.
    """
    known = {
        name.encode(): Traced(frozenset(places), tuple(frozenset((place,)) for place in places))
        for name, places in inputs.items()
    }
    everything = {b"": Traced(_NONE.union(*(traced.all for traced in known.values())))}
    compared = {first_bytes(node, _INPUT) for node in nodes if first_bytes(node, _OP) == _TELLS_MISSING}
    for node in nodes:  # in the order in which they run
        read = [bytes(name) for name in messages(node, _INPUT)]
        given = {name: known[name] for name in read if name in known and name not in compared}
        if _holds_graphs(node):  # which may read every tensor
            given = everything
        found = _behind(node, read, given, constants)
        known |= {bytes(name): found for name in messages(node, _OUTPUT)}
    return frozenset().union(*(known[name.encode()].all for name in outputs if name.encode() in known))


def _behind(
    node: memoryview,
    read: Sequence[bytes],
    given: Mapping[bytes, Traced],
    constants: Mapping[bytes, Sequence[int]],
) -> Traced:
    operation = first_bytes(node, _OP)
    if operation in _NOT_OF_VALUES or _knows_missing(node):
        return Traced(_NONE)
    if len(given) == 1:
        ((name, traced),) = given.items()
        if operation in _SAME_COLUMNS:
            return traced
        chosen = constants.get(read[1]) if operation in _CHOOSES and len(read) > 1 else None
        is_by_column = operation != b"Gather" or _axis(node) in (1, -1)
        if traced.columns is not None and chosen and is_by_column and name == read[0]:
            width = len(traced.columns)
            return _side_by_side(tuple(traced.columns[place] for place in chosen if -1 < place < width))
    if operation == b"Concat" and len(given) == len(read) and _axis(node) in (1, -1):
        parts = [given[name].columns for name in read]
        if all(part is not None for part in parts):
            return _side_by_side(tuple(column for part in parts for column in part or ()))
    return Traced(_NONE.union(*(traced.all for traced in given.values())))


def _side_by_side(columns: tuple[Features, ...]) -> Traced:
    """A tensor of these columns; a file that was made to double them again and again gets no list of them."""
    return Traced(_NONE.union(*columns), columns if len(columns) <= _MOST_COLUMNS else None)


def _knows_missing(node: memoryview) -> bool:
    for attribute in messages(node, _ATTRIBUTE):
        name = first_bytes(attribute, _NAME)
        if name == _MISSING_BRANCH and any(integers(attribute, _INTEGERS)):
            return True
        if name == _REPLACED and any(map(math.isnan, floats(attribute, _FLOAT))):
            return True
        if name == _KEYS and any(map(math.isnan, floats(attribute, _FLOATS))):
            return True
    return first_bytes(node, _OP) == _TELLS_MISSING


def _axis(node: memoryview) -> int:
    for attribute in messages(node, _ATTRIBUTE):
        if first_bytes(attribute, _NAME) == b"axis":
            return next(integers(attribute, _INTEGER), 0)
    return 0


def _holds_graphs(node: memoryview) -> bool:
    """Whether a part of the graph runs inside of it, as in loops."""
    return any(
        number in (_GRAPH, _GRAPHS)
        for attribute in messages(node, _ATTRIBUTE)
        for number, _ in fields(attribute)
    )
