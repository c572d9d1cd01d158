"""What a program is answered: a run's predictions as tensors, in JSON or binary, with the rejected rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlops_plugin.errors import CaseError
from mlops_plugin.inference_server.inference_requests import InferRequest
from mlops_plugin.inference_server.tensors import binary_of, tensor_column
from mlops_plugin.serving.run import Rejection, Shown

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True)
class Answer:
    """An encoded answer, and how many rows have a prediction.

    `json_bytes` is the size of its JSON part if binary data follow.
    """

    status: int
    content: bytes
    predicted: int
    rejected: int
    json_bytes: int | None = None


@dataclass(frozen=True)
class Answers:
    """What a model answers to one request: `predictions` has its columns for the rows not rejected."""

    dispatch_id: str
    version: str
    rows: int
    predictions: pa.RecordBatch
    rejections: Sequence[Rejection]

    @classmethod
    def of(cls, key: Sequence[str], shown: Shown) -> Answers:
        """Those of a run in the Showroom."""
        names = shown.predictions.column_names[len(key) :]
        table = shown.predictions.select(names).combine_chunks()
        batches = table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
        rows = shown.rows.num_rows
        return cls(shown.dispatch_id, shown.artifact_sha256, rows, batches[0], shown.rejections)


def answer_of(name: str, request: InferRequest, found: Answers) -> Answer:
    """The answer to a request; 422 if none of its rows has a prediction.

    Rejected rows are null. An output with such a row is JSON data even if it was asked for in binary, which
    has no null.
    """
    rejected = [vars(rejection) for rejection in found.rejections]
    head: dict[str, Any] = {
        "model_name": name,
        "model_version": found.version,
        **({} if request.id is None else {"id": request.id}),
        "parameters": {
            "dispatch_id": found.dispatch_id,
            **({"rejected": rejected} if rejected else {}),
        },
    }
    predicted = found.predictions.num_rows
    counts = (predicted, found.rows - predicted)
    if rejected and not predicted:
        return Answer(422, _json({"error": _reasons(found), **head}), *counts)
    columns = _columns(found)
    outputs, binary = [], []
    for wanted, is_binary in _wanted(request, list(columns)):
        datatype, column = tensor_column(columns[wanted])
        output: dict[str, Any] = {"name": wanted, "datatype": datatype, "shape": [len(column)]}
        if is_binary and not column.null_count:
            binary.append(binary_of(datatype, column))
            output["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            output["data"] = column.to_pylist()
        outputs.append(output)
    content = _json({**head, "outputs": outputs})
    if not binary:
        return Answer(200, content, *counts)
    return Answer(200, b"".join([content, *binary]), *counts, len(content))


def require_outputs(request: InferRequest, names: Sequence[str]) -> None:
    """Raise `CaseError` if the request wants an output that the model does not have, or in a form we lack."""
    wanted = [output.name for output in request.outputs or ()]
    for output in request.outputs or ():
        if output.name not in names:
            raise CaseError(f"the model has no output '{output.name}'; it has {', '.join(names)}")
        if output.parameters.classification is not None:
            raise CaseError(f"output '{output.name}': the classification extension is not supported")
    if len(wanted) != len({*wanted}):
        raise CaseError("an output is requested twice; request each once")


def _wanted(request: InferRequest, names: list[str]) -> list[tuple[str, bool]]:
    """The outputs to answer with, and whether each is to be binary."""
    usual = request.parameters.binary_data_output
    if not request.outputs:
        return [(name, usual) for name in names]
    require_outputs(request, names)
    wanted = [(output.name, output.parameters.binary_data) for output in request.outputs]
    return [(name, usual if is_binary is None else is_binary) for name, is_binary in wanted]


def _columns(found: Answers) -> dict[str, pa.Array]:
    """The model's columns with a place for each row of the request."""
    answers = found.predictions
    rejected = {rejection.row for rejection in found.rejections}
    if rejected:
        answered = iter(range(answers.num_rows))
        places = [None if row in rejected else next(answered) for row in range(found.rows)]
        answers = answers.take(pa.array(places, pa.int64()))
    return dict(zip(answers.schema.names, answers.columns, strict=True))


def _reasons(answers: Answers) -> str:
    found = [
        f"row {one.row}: {'' if one.column is None else one.column + ': '}{one.reason}"
        + ("" if one.value is None else f" (found {one.value})")
        for one in answers.rejections
    ]
    more = f"; and {len(found) - 20} more" if len(found) > 20 else ""
    return "no row has a prediction: " + "; ".join(found[:20]) + more


def _json(value: dict[str, Any]) -> bytes:
    return _ENCODER.encode(value).encode()
