"""What an ONNX file says of labels and missing values; onnxruntime does not tell, so the file is read here.

It is a protobuf message: https://github.com/onnx/onnx/blob/main/onnx/onnx-ml.proto. Only nodes and constants
of the graph itself are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

_GRAPH = 7  # ModelProto
_NODE, _CONSTANT = 1, 5  # GraphProto
_INPUT, _OUTPUT, _OP, _ATTRIBUTE = 1, 2, 4, 5  # NodeProto
_NAME, _INTEGERS, _STRINGS = 1, 8, 9  # AttributeProto
_KIND, _INT32_DATA, _STRING_DATA, _INT64_DATA, _CONSTANT_NAME, _RAW_DATA = 2, 5, 6, 7, 8, 9  # TensorProto
_INT32, _INT64 = 6, 7  # kinds of TensorProto
_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5
_LISTS = (b"classlabels_strings", b"classlabels_int64s", b"classlabels_ints")
_HANDS_ON = (b"Cast", b"Flatten", b"Identity", b"Reshape", b"Squeeze", b"Unsqueeze")
_KNOW_MISSING = (b"Imputer", b"IsNaN")
_MISSING_BRANCH = b"nodes_missing_value_tracks_true"  # of trees: 1 if a missing value goes where true goes
_CHOOSES = (b"ArrayFeatureExtractor", b"Gather")
_SIGN, _MODULUS = 1 << 63, 1 << 64

Labels = tuple[int, ...] | tuple[str, ...]


class OnnxGraph:
    """Nodes and constants of a file; raises `ValueError` for what is no protobuf."""

    def __init__(self, content: bytes) -> None:
        self._nodes: list[memoryview] = []
        self._constants: list[memoryview] = []
        for graph in _all(memoryview(content), _GRAPH):
            self._nodes += _all(graph, _NODE)
            self._constants += _all(graph, _CONSTANT)

    @property
    def takes_missing(self) -> bool:
        """Whether something in it was made for missing values: an imputer, or trees that know where to."""
        return any(
            _text(node, _OP) in _KNOW_MISSING
            or any(
                _text(attribute, _NAME) == _MISSING_BRANCH and any(_integers(attribute, _INTEGERS))
                for attribute in _all(node, _ATTRIBUTE)
            )
            for node in self._nodes
        )

    def labels_of(self, output: str) -> Labels | None:
        """The labels of a ZipMap, or those among which the output of labels is chosen, or those that all
        classifiers agree on; None if nothing tells."""
        found = []
        for node in self._nodes:
            labels = _labels_of_node(node)
            if labels is not None and _text(node, _OP) == b"ZipMap":
                return labels
            found += [] if labels is None else [labels]
        chosen = _chosen_among(self._nodes, self._constants, output.encode())
        if chosen is not None:
            return chosen
        return found[0] if len(set(found)) == 1 else None


def _chosen_among(nodes: list[memoryview], constants: list[memoryview], name: bytes) -> Labels | None:
    """The constant from which an output is picked by a number, followed back through what only reshapes."""
    for node in reversed(nodes):  # in the order in which they run
        if name not in [bytes(each) for each in _all(node, _OUTPUT)]:
            continue
        operation = _text(node, _OP)
        name = _text(node, _INPUT)
        if operation in _CHOOSES:
            return next((_values(each) for each in constants if _text(each, _CONSTANT_NAME) == name), None)
        if operation not in _HANDS_ON:
            return None
    return None


def _values(constant: memoryview) -> Labels | None:
    """The texts or whole numbers of a constant."""
    texts = tuple(bytes(each).decode() for each in _all(constant, _STRING_DATA))
    if texts:
        return texts
    kind = next((value for number, value in _fields(constant) if number == _KIND), None)
    raw = _text(constant, _RAW_DATA)
    if kind not in (_INT32, _INT64):
        return None
    if raw:
        size = 8 if kind == _INT64 else 4
        places = range(0, len(raw), size)
        return tuple(int.from_bytes(raw[at : at + size], "little", signed=True) for at in places)
    return tuple(_integers(constant, _INT64_DATA if kind == _INT64 else _INT32_DATA)) or None


def _labels_of_node(node: memoryview) -> Labels | None:
    for attribute in _all(node, _ATTRIBUTE):
        if _text(attribute, _NAME) not in _LISTS:
            continue
        strings = tuple(bytes(text).decode() for text in _all(attribute, _STRINGS))
        if strings:
            return strings
        integers = tuple(_integers(attribute, _INTEGERS))
        if integers:
            return integers
    return None


def _text(message: memoryview, wanted: int) -> bytes:
    """The first field of this number; none is empty."""
    return bytes(next(_all(message, wanted), b""))


def _integers(message: memoryview, wanted: int) -> Iterator[int]:
    for number, value in _fields(message):
        if number != wanted:
            continue
        if isinstance(value, int):
            yield _signed(value)
            continue
        place = 0
        while place < len(value):  # several in one field
            each, place = _varint(value, place)
            yield _signed(each)


def _all(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The fields of this number that hold bytes."""
    for number, value in _fields(message):
        if number == wanted and not isinstance(value, int):
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
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
