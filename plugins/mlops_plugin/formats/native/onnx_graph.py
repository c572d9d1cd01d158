"""What an ONNX file says of labels and missing values; onnxruntime does not tell, so the file is read here.

It is a protobuf message: https://github.com/onnx/onnx/blob/main/onnx/onnx-ml.proto. Only nodes and constants
of the graph itself are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mlops_plugin.formats.native.onnx_missing import features_that_reach
from mlops_plugin.formats.native.protobuf import fields, first_bytes, integers, messages

_GRAPH = 7  # ModelProto
_NODE, _CONSTANT = 1, 5  # GraphProto
_INPUT, _OUTPUT, _OP, _ATTRIBUTE = 1, 2, 4, 5  # NodeProto
_NAME, _INTEGERS, _STRINGS = 1, 8, 9  # AttributeProto
_KIND, _INT32_DATA, _STRING_DATA, _INT64_DATA, _CONSTANT_NAME, _RAW_DATA = 2, 5, 6, 7, 8, 9  # TensorProto
_INT32, _INT64 = 6, 7  # kinds of TensorProto
_LISTS = (b"classlabels_strings", b"classlabels_int64s", b"classlabels_ints")
_HANDS_ON = (b"Cast", b"Flatten", b"Identity", b"Reshape", b"Squeeze", b"Unsqueeze")
_CHOOSES = (b"ArrayFeatureExtractor", b"Gather")

Labels = tuple[int, ...] | tuple[str, ...]


class OnnxGraph:
    """Nodes and constants of a file; raises `ValueError` for what is no protobuf."""

    def __init__(self, content: bytes) -> None:
        self._nodes: list[memoryview] = []
        self._constants: list[memoryview] = []
        for graph in messages(memoryview(content), _GRAPH):
            self._nodes += messages(graph, _NODE)
            self._constants += messages(graph, _CONSTANT)

    def refusing_missing(self, inputs: Mapping[str, Sequence[int]], outputs: Iterable[str]) -> frozenset[int]:
        """Which features nothing in it was made for missing values of; `inputs`: those in their columns."""
        constants = {first_bytes(each, _CONSTANT_NAME): _whole_numbers(each) for each in self._constants}
        return features_that_reach(outputs, self._nodes, constants, inputs)

    def labels_of(self, output: str) -> Labels | None:
        """The labels of a ZipMap, or those among which the output of labels is chosen, or those that all
        classifiers agree on; None if nothing tells."""
        found = []
        for node in self._nodes:
            labels = _labels_of_node(node)
            if labels is not None and first_bytes(node, _OP) == b"ZipMap":
                return labels
            found += [] if labels is None else [labels]
        chosen = _chosen_among(self._nodes, self._constants, output.encode())
        if chosen is not None:
            return chosen
        return found[0] if len(set(found)) == 1 else None


def _chosen_among(nodes: list[memoryview], constants: list[memoryview], name: bytes) -> Labels | None:
    """The constant from which an output is picked by a number, followed back through what only reshapes."""
    for node in reversed(nodes):  # in the order in which they run
        if name not in [bytes(each) for each in messages(node, _OUTPUT)]:
            continue
        operation = first_bytes(node, _OP)
        name = first_bytes(node, _INPUT)
        if operation in _CHOOSES:
            named = (each for each in constants if first_bytes(each, _CONSTANT_NAME) == name)
            return next(map(_values, named), None)
        if operation not in _HANDS_ON:
            return None
    return None


def _values(constant: memoryview) -> Labels | None:
    """The texts or whole numbers of a constant."""
    texts = tuple(bytes(each).decode() for each in messages(constant, _STRING_DATA))
    if texts:
        return texts
    kind = next((value for number, value in fields(constant) if number == _KIND), None)
    raw = first_bytes(constant, _RAW_DATA)
    if kind not in (_INT32, _INT64):
        return None
    if raw:
        size = 8 if kind == _INT64 else 4
        places = range(0, len(raw), size)
        return tuple(int.from_bytes(raw[at : at + size], "little", signed=True) for at in places)
    return tuple(integers(constant, _INT64_DATA if kind == _INT64 else _INT32_DATA)) or None


def _whole_numbers(constant: memoryview) -> list[int]:
    return [value for value in _values(constant) or () if isinstance(value, int)]


def _labels_of_node(node: memoryview) -> Labels | None:
    for attribute in messages(node, _ATTRIBUTE):
        if first_bytes(attribute, _NAME) not in _LISTS:
            continue
        strings = tuple(bytes(text).decode() for text in messages(attribute, _STRINGS))
        if strings:
            return strings
        numbers = tuple(integers(attribute, _INTEGERS))
        if numbers:
            return numbers
    return None
