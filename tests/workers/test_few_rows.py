"""A model that is asked about a few rows reads their schema once; each answer is about its own row."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from mlops_plugin.config.schema import ServingConfig
from mlops_plugin.errors import FeatureError, MlopsError
from mlops_plugin.workers.messages import Predict
from mlops_plugin.workers.process import ModelProcess
from mlops_plugin.workers.process_limits import ServingLimits
from support import hostile_models as hostile
from support.workshop import FEATURES, Workshop


@pytest.fixture
def process(workshop: Workshop) -> Iterator[ModelProcess]:
    artifact = hostile.save(hostile.Hostile(), workshop.folder / "few.pickle")
    workshop.add_model("few", model=artifact, features=list(FEATURES))
    process = ModelProcess(workshop.model("few"), ServingLimits(ServingConfig()))
    process.load()
    process.learn_outputs(_rows(0))
    yield process
    process.end()


def _rows(value: float, kind: pa.DataType | None = None) -> pa.RecordBatch:
    """One row whose first column, which is what the model answers, has this value."""
    others = {name: pa.array([0.0]) for name in FEATURES[1:]}
    return pa.record_batch({FEATURES[0]: pa.array([value], kind or pa.float64()), **others})


def _answer(process: ModelProcess, rows: pa.RecordBatch) -> object:
    return process.predict(rows).column("prediction")[0].as_py()


def test_each_row_gets_its_own_answer_whatever_the_schema_before_it_was(process: ModelProcess) -> None:
    swapped = _rows(7).select([*reversed(FEATURES)])
    asked = [_rows(1), _rows(2), _rows(3, pa.int64()), _rows(4, pa.int64()), swapped, _rows(5), _rows(6)]
    assert [_answer(process, rows) for rows in asked] == [1, 2, 3, 4, 7, 5, 6]


def test_a_row_that_is_refused_leaves_the_next_ones_to_be_read_as_they_are(process: ModelProcess) -> None:
    refused = _rows(hostile.RAISES, pa.int64())
    assert _answer(process, _rows(1)) == 1
    for _ in range(2):
        with pytest.raises(FeatureError, match="does not feel like it"):
            process.predict(refused)
        assert _answer(process, _rows(2)) == 2
        assert _answer(process, _rows(3, pa.int64())) == 3


def test_a_row_of_a_schema_that_was_not_sent_is_refused(process: ModelProcess) -> None:
    assert _answer(process, _rows(1)) == 1
    unknown = Predict(timeout_s=120, schema_number=99, is_bare=True)
    with pytest.raises(MlopsError, match="schema 99 was not sent"):
        process._receive(process._send(unknown, [memoryview(_rows(2).serialize())]), 1 << 20)
    assert _answer(process, _rows(3)) == 3


def test_answers_are_of_the_type_that_was_known_before_a_row_was_answered(workshop: Workshop) -> None:
    artifact = hostile.save(hostile.Opens(), workshop.folder / "opens.pickle")
    workshop.add_model("opens", model=artifact, features=list(FEATURES))
    process = ModelProcess(workshop.model("opens"), ServingLimits(ServingConfig()))
    process.load()
    try:
        assert str(process.outputs.field("prediction").type) == "double"
        assert _answer(process, _rows(5)) == 5  # the bytes of an integer would be another double
    finally:
        process.end()
