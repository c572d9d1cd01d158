"""A model works on the next batch while its caller has the last: each batch gets its own answers, or none."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from mlops_plugin.config.schema import ServingConfig
from mlops_plugin.errors import FeatureError, ServingError
from mlops_plugin.workers.patience import Patience
from mlops_plugin.workers.process import ModelProcess
from mlops_plugin.workers.process_limits import ServingLimits
from support import hostile_models as hostile
from support.forging_models import DISORDERS, Counting, Disorderly
from support.workshop import FEATURES, Workshop

MANY = 5000  # rows that are too many for the message itself


def _rows(value: float, count: int = MANY) -> pa.RecordBatch:
    return pa.record_batch({name: pa.array([float(value)] * count) for name in FEATURES})


@pytest.fixture
def process(workshop: Workshop, request: pytest.FixtureRequest) -> Iterator[ModelProcess]:
    artifact = hostile.save(request.param, workshop.folder / "ahead.pickle")
    workshop.add_model("ahead", model=artifact, features=list(FEATURES))
    limits = ServingConfig.model_validate({"timeout": "120s", "memory_mb": 700})
    process = ModelProcess(workshop.model("ahead"), ServingLimits(limits))
    process.load()
    process.learn_outputs(_rows(0))
    yield process
    process.end()


def _answers(batch: pa.RecordBatch) -> set[object]:
    return {*batch.column("prediction").to_pylist()}


def _first(batch: pa.RecordBatch) -> float:
    return float(batch.column(0)[0].as_py())


def _collect(process: ModelProcess, batches: list[pa.RecordBatch], found: list[set[object]]) -> None:
    process.ask_ahead(batches[1])  # which the process may have ended before
    found.extend(_answers(process.predict(batch)) for batch in batches)


@pytest.mark.parametrize("process", [Counting()], indirect=True)
def test_model_is_asked_in_the_order_of_asking_ahead(process: ModelProcess) -> None:
    first, second, third = _rows(1), _rows(2), _rows(3)
    before = _first(process.predict(_rows(0)))
    for rows in (first, second, third):  # two at a time
        process.ask_ahead(rows)
    between = _first(process.predict(_rows(0, 1)))
    answers = [_first(process.predict(rows)) for rows in (third, first, second)]
    assert [answer - before for answer in [between, *answers]] == [2, 3, 1, 2]


@pytest.mark.parametrize("process", [hostile.Hostile()], indirect=True)
def test_each_batch_gets_its_own_answers(process: ModelProcess) -> None:
    batches = [_rows(number, MANY + number) for number in range(6)]
    process.ask_ahead(batches[0])
    for number, batch in enumerate(batches):
        for following in batches[number + 1 : number + 2]:
            process.ask_ahead(following)
        found = process.predict(batch)
        assert (found.num_rows, _answers(found)) == (MANY + number, {float(number)})


@pytest.mark.parametrize("process", [hostile.Hostile()], indirect=True)
def test_a_refusal_belongs_to_the_batch_that_is_refused(process: ModelProcess) -> None:
    batches = [_rows(1), _rows(hostile.RAISES), _rows(2)]
    process.ask_ahead(batches[0])
    process.ask_ahead(batches[1])
    assert _answers(process.predict(batches[0])) == {1.0}
    process.ask_ahead(batches[2])
    assert _answers(process.predict(_rows(5, 1))) == {5.0}
    with pytest.raises(FeatureError, match="does not feel like it"):
        process.predict(batches[1])
    assert _answers(process.predict(batches[2])) == {2.0}


@pytest.mark.parametrize("process", [Disorderly()], indirect=True)
@pytest.mark.parametrize("disorder", DISORDERS)
def test_answers_in_disorder_end_the_process(process: ModelProcess, disorder: str) -> None:
    first, second = _rows(100 + list(DISORDERS).index(disorder)), _rows(2)
    process.ask_ahead(first)
    found: list[set[object]] = []
    with pytest.raises(ServingError):
        _collect(process, [first, second], found)
    assert found in ([], [{666.0}])  # a model may answer its own caller what it likes
    assert process.is_ended


@pytest.mark.parametrize("process", [hostile.Hostile()], indirect=True)
def test_an_answer_that_nobody_waits_for_ends_the_process(process: ModelProcess) -> None:
    with process.used_with(Patience()):
        process.ask_ahead(_rows(1))
    assert process.is_ended
