"""The outputs of an ONNX model: which are labels, probabilities, scores and numbers, by types and names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlops_plugin.errors import ArtifactError
from mlops_plugin.formats.native.native_model import Values

_LABELS = ("tensor(int64)", "tensor(int32)", "tensor(string)", "tensor(bool)")
_NUMBERS = ("tensor(float)", "tensor(double)", "tensor(float16)")
_TEXTS = "tensor(string)"
_MAPS = "seq(map("
_PROBABILITIES, _SCORES, _LABEL = "prob", "score", "label"  # in names, as converters write them


class OnnxOutputs:
    """Names of outputs: `probabilities` is one matrix or list of maps, or a vector for each class."""

    def __init__(self, uri: str, described: Sequence[Any]) -> None:
        self._uri = uri
        labels = [each for each in described if each.type in _LABELS]
        numbers = [each for each in described if each.type in _NUMBERS]
        maps = [each for each in described if each.type.startswith(_MAPS)]
        labels = _predicted(uri, labels)
        self.label: str | None = labels[0].name if labels else None
        self.are_texts = bool(labels) and labels[0].type == _TEXTS
        self.score: str | None = None
        self.probabilities: list[Any] | None = None
        likely = maps or [each for each in numbers if _PROBABILITIES in each.name.lower()]
        if len(likely) == 1 and (labels or len(numbers) == 1):
            self.probabilities = likely
        elif labels and len(numbers) > 1 and all(len(each.shape or ()) == 1 for each in numbers):
            self.probabilities = numbers  # ZipMap's columns
        elif labels and len(numbers) == 1 and _SCORES in numbers[0].name.lower() and _width(numbers[0]) == 1:
            self.score = numbers[0].name
        self._numbers = [each.name for each in numbers]
        if not labels and not numbers:
            found = ", ".join(f"'{each.name}' ({each.type})" for each in described)
            raise ArtifactError(
                f"model file '{uri}' answers {found}; a model must answer labels or numbers for each row"
            )

    def class_count(self, known: Sequence[Any] | None, configured: Sequence[Any] | None) -> int | None:
        """How many classes there are; None: the model answers numbers."""
        if self.probabilities is None or (self.label is None and configured is None):
            self.probabilities = None
            return None
        if known is not None:
            return len(known)
        width = len(self.probabilities) if len(self.probabilities) > 1 else _width(self.probabilities[0])
        return width or len(configured or (0, 1))

    def labels(self, found: dict[str, Any]) -> Values:
        """One label for each row."""
        assert self.label is not None  # noqa: S101 - asked of models that have one
        labels = np.asarray(found[self.label])
        return labels.reshape(len(labels), -1)[:, 0] if labels.ndim > 1 and labels.shape[1] == 1 else labels

    def scores(self, found: dict[str, Any]) -> Values:
        """One score for each row."""
        assert self.score is not None  # noqa: S101 - asked of models that have one
        return np.asarray(found[self.score]).reshape(-1)

    def numbers(self, found: dict[str, Any]) -> Values:
        """All numbers, in columns."""
        columns = [np.asarray(found[name]) for name in self._numbers]
        columns = [column.reshape(len(column), -1) for column in columns]
        return np.concatenate(columns, axis=1) if len(columns) > 1 else columns[0]

    def probability_columns(self, found: dict[str, Any], known: Sequence[Any] | None) -> Values:
        """Rows x classes, in the order of the labels."""
        assert self.probabilities is not None  # noqa: S101 - asked of classifiers
        values = [found[each.name] for each in self.probabilities]
        if len(values) > 1:
            return np.column_stack(values)
        if not isinstance(values[0], list):
            return np.asarray(values[0])
        if known is None:
            raise ArtifactError(
                f"the model in '{self._uri}' answers maps of probabilities, and its file does not say in "
                "which order its classes are; export it without ZipMap"
            )
        return np.array([[row[label] for label in known] for row in values[0]])

    @staticmethod
    def cut(found: dict[str, Any], rows: int) -> dict[str, Any]:
        """The answers about the first rows."""
        return {name: values[:rows] for name, values in found.items()}

    @staticmethod
    def joined(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The answers of several runs, one after the other."""
        joined: dict[str, Any] = {}
        for name in runs[0]:
            parts = [run[name] for run in runs]
            if isinstance(parts[0], list):
                joined[name] = [row for part in parts for row in part]
            else:
                joined[name] = np.concatenate([np.atleast_1d(part) for part in parts])
        return joined


def _predicted(uri: str, labels: list[Any]) -> list[Any]:
    """The one output with labels; raises `ArtifactError` if nothing tells which of several it is."""
    named = [each for each in labels if _LABEL in each.name.lower()]
    found = labels if len(labels) < 2 else named
    if len(labels) > 1 and len(named) != 1:
        names = ", ".join(f"'{each.name}'" for each in labels)
        raise ArtifactError(
            f"model file '{uri}' has several outputs of whole numbers, booleans or texts ({names}), and not "
            "one of them alone has `label` in its name: export the model with the one that is its prediction "
            "(`select_model_inputs_outputs(converted, [...])` of skl2onnx), a file for each if there are more"
        )
    return found


def _width(described: Any) -> int | None:
    """How many columns an output has; None if the file leaves it open."""
    shape = list(described.shape or ())
    if len(shape) < 2:
        return 1
    return shape[1] if isinstance(shape[1], int) else None
