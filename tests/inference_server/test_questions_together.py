"""Requests that are answered together: each gets its own answer and its own record, whatever is beside it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import FunctionTransformer, make_pipeline

from inference_server.conftest import infer, outputs, tensor
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import EventStoreError, FeatureError, ServingError
from mlops_plugin.events.records import DispatchIdentity, DispatchRecord, EventRecord, summarise
from mlops_plugin.formats.runtime import artifact_sha256
from mlops_plugin.formats.signature.signature import signature_uri
from mlops_plugin.formats.signature.signature_writer import write_signature
from mlops_plugin.inference_server.inference import Body, Inference, Question
from mlops_plugin.inference_server.inference_answers import Answer
from mlops_plugin.inference_server.model_descriptions import ModelDescriptions
from mlops_plugin.serving.run import Showroom
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.web.shared_site import Site
from mlops_plugin.workers.patience import Patience
from mlops_plugin.workers.pool import ModelPool
from mlops_plugin.workers.process import ModelProcess
from support import hostile_models, shop_code
from support.workshop import Workshop

TOGETHER = 12


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path_factory.mktemp("together"))
    columns = {"a": {"max": 10}, "b": {"nullable": False, "on_violation": "impute", "impute": 0.0}}
    workshop.add_model("strict", input={"columns": columns})
    artifact = hostile_models.save(hostile_models.Hostile(), workshop.folder / "hostile.pickle")
    workshop.add_model("hostile", model=artifact, features=["a", "b", "c"])
    guard = {"columns": {"a": {"max": 99}}}
    workshop.add_model("guarded", model=artifact, features=["a", "b", "c"], input=guard)
    with workshop.ready():
        yield workshop


@pytest.fixture(scope="module")
def inference(site: Site) -> Inference:
    return Inference(site)


def _row(number: int) -> list[float]:
    return [float(value) for value in np.random.default_rng(number).normal(size=3)]


def _question(
    inference: Inference, site: Site, model: str, number: int, *rows: list[float | None]
) -> Question:
    """A question with an id, a user and a key that say which one it is."""
    found = site.loaded().config.models[model]
    columns = zip(*rows or [_row(number)], strict=True)
    inputs = [tensor(name, "FP64", list(values)) for name, values in zip("abc", columns, strict=True)]
    keys = [1000 * number + place for place in range(len(rows) or 1)]
    body = json.dumps({"id": f"request {number}", "inputs": [*inputs, tensor("id", "INT64", keys)]})
    described = inference.describe(found, None)
    return Question.of(found, f"user {number}", Body(body.encode(), None, None), described)


def _content(answer: Answer | Exception) -> dict[str, Any]:
    assert isinstance(answer, Answer), answer
    content: dict[str, Any] = json.loads(answer.content)
    return content


def _require_own_answer(workshop: Workshop, number: int, answer: Answer | Exception) -> None:
    content = _content(answer)
    expected = workshop.classifier.predict_proba(workshop.frame([_row(number)]))[0]
    found = {output["name"]: output["data"] for output in content["outputs"]}
    assert content["id"] == f"request {number}"
    assert [found["probability_leaves"][0], found["probability_stays"][0]] == pytest.approx(
        expected, rel=1e-12
    )
    record = workshop.record(content["parameters"]["dispatch_id"])
    assert (record.requested_by, record.first_key) == (f"user {number}", {"id": 1000 * number})
    assert (record.state, record.rows_predicted) == ("succeeded", 1)


@pytest.mark.slow
def test_distinct_rows_are_each_answered_for_themselves(
    inference: Inference, site: Site, workshop: Workshop
) -> None:
    questions = [_question(inference, site, "churn", number) for number in range(TOGETHER)]
    for number, answer in enumerate(inference.answer("churn", questions)):
        _require_own_answer(workshop, number, answer)


def test_a_row_that_the_model_refuses_fails_alone(
    inference: Inference, site: Site, workshop: Workshop
) -> None:
    numbers = range(100, 100 + TOGETHER)
    questions = [_question(inference, site, "churn", number) for number in numbers]
    questions[5] = _question(inference, site, "churn", 105, [0.5, None, 0.5])
    before = len(workshop.records())
    answers = inference.answer("churn", questions)
    for number, answer in zip(numbers, answers, strict=True):
        if number != 105:
            _require_own_answer(workshop, number, answer)
    assert isinstance(answers[5], FeatureError)
    records = workshop.records()
    assert len(records) - before == TOGETHER
    (failed,) = (record for record in records if record.requested_by == "user 105")
    assert failed.state == "failed"


@pytest.mark.slow
def test_a_row_that_ends_the_models_process_fails_alone_and_is_asked_about_once_more_only(
    inference: Inference, site: Site, workshop: Workshop
) -> None:
    values = [1.0, 2.0, float(hostile_models.EXITS), 3.0]
    questions = [
        _question(inference, site, "hostile", number, [value, 0.5, 0.5])
        for number, value in enumerate(values)
    ]
    answers = inference.answer("hostile", questions)
    assert isinstance(answers[2], ServingError)
    for place in (0, 1, 3):
        content = _content(answers[place])
        assert (content["id"], content["outputs"][0]["data"]) == (f"request {place}", [values[place]])
    records = workshop.records("hostile")
    assert sorted((one.requested_by or "", one.state) for one in records) == [
        ("user 0", "succeeded"),
        ("user 1", "succeeded"),
        ("user 2", "failed"),
        ("user 3", "succeeded"),
    ]
    (failed,) = (one for one in records if one.state == "failed")
    assert "exit status 7" in (failed.error or "")
    last = [(event.step, event.kind) for event in workshop.events(failed.dispatch_id)][-2:]
    assert last == [("infer", "failed"), (None, "failed")]


@pytest.mark.slow
def test_rejected_and_imputed_rows_are_reported_to_their_own_request(
    inference: Inference, site: Site, workshop: Workshop
) -> None:
    rows: list[list[list[float | None]]] = [
        [[1, 2, 3]],
        [[1, 2, 3], [11, 2, 3], [2, 2, 3]],
        [[4, 2, 3]],
        [[12, 2, 3]],
        [[5, 2, 3]],
    ]
    alone = [
        _content(inference.answer("strict", [_question(inference, site, "strict", number, *each)])[0])
        for number, each in enumerate(rows)
    ]
    questions = [_question(inference, site, "strict", number, *each) for number, each in enumerate(rows)]
    answers = inference.answer("strict", questions)
    assert [answer.status for answer in answers if isinstance(answer, Answer)] == [200, 200, 200, 422, 200]
    for one, answer in zip(alone, answers, strict=True):
        found = _content(answer)
        record = workshop.record(found["parameters"].pop("dispatch_id"))
        one["parameters"].pop("dispatch_id")
        assert found == one
        assert record.rows_rejected == len(found["parameters"].get("rejected", ()))
    with_null: list[list[list[float | None]]] = [[[1, None, 3]], [[2, None, 3], [3, 1, 3]], [[3, None, 3]]]
    imputed = [_question(inference, site, "strict", number, *each) for number, each in enumerate(with_null)]
    for answer in inference.answer("strict", imputed):
        events = workshop.events(_content(answer)["parameters"]["dispatch_id"])
        report = next(event.details for event in events if (event.step, event.kind) == ("infer", "succeeded"))
        assert getattr(report, "imputed", None) == {"b": 1}


def test_rows_that_the_contract_rejects_never_reach_the_model(inference: Inference, site: Site) -> None:
    question = _question(inference, site, "guarded", 1, [hostile_models.CRASHES, 0.0, 0.0], [1.0, 0.0, 0.0])
    answer = inference.answer("guarded", [question])[0]
    assert _content(answer)["outputs"][0]["data"] == [None, 1.0]


def test_only_requests_whose_columns_look_alike_go_together(inference: Inference, site: Site) -> None:
    plain = _question(inference, site, "churn", 1)
    with_null = _question(inference, site, "churn", 2, [0.5, None, 0.5])
    whole = _question(inference, site, "churn", 3)
    assert plain.likeness == whole.likeness
    assert plain.likeness != with_null.likeness


def test_rows_of_a_model_that_compares_rows_are_compared_with_no_others(
    inference: Inference, site: Site, workshop: Workshop
) -> None:
    ranking = make_pipeline(FunctionTransformer(shop_code.ranks), LinearRegression())
    rows = workshop.frame([_row(number) for number in range(60)])
    ranking.fit(rows, shop_code.ranks(rows)["a"])
    path = str(workshop.folder / "ranking.joblib")
    joblib.dump(ranking, path)
    write_signature(ranking, rows, path)
    artifact = {"format": "joblib", "uri": path, "sha256": artifact_sha256(path)}
    workshop.add_model("ranking", model=artifact)
    questions = [
        _question(inference, site, "ranking", number, [float(number), 0.0, 0.0]) for number in range(3)
    ]
    assert len({question.likeness for question in questions}) == 3
    for answer in (inference.answer("ranking", [question])[0] for question in questions):
        assert _content(answer)["outputs"][0]["data"] == pytest.approx([1.0])


def test_a_signature_that_comes_while_its_model_is_loaded_keeps_requests_apart(
    site: Site, workshop: Workshop
) -> None:
    ranking = make_pipeline(FunctionTransformer(shop_code.ranks), LinearRegression())
    rows = workshop.frame([_row(number) for number in range(60)])
    ranking.fit(rows, shop_code.ranks(rows)["a"])
    path = workshop.folder / "signed_late.joblib"
    joblib.dump(ranking, path)
    artifact = {"format": "joblib", "uri": str(path), "sha256": artifact_sha256(str(path))}
    workshop.add_model("signed_late", model=artifact)

    class SignedLate(ModelPool):
        @contextlib.contextmanager
        def runtime(self, model: ModelConfig, patience: Patience | None = None) -> Iterator[ModelProcess]:
            if not Path(signature_uri(str(path))).exists():
                write_signature(ranking, rows, str(path))
            with super().runtime(model, patience) as process:
                yield process

    with contextlib.closing(SignedLate(site.model_pool().limits)) as pool:
        described = ModelDescriptions().describe(workshop.model("signed_late"), pool)
    assert described.signature_sha256 is not None
    assert not described.answers_together


def _alike(record: DispatchRecord | EventRecord) -> dict[str, Any]:
    """What a run leaves on record, but for its id and its times."""
    others = {"id", "dispatch_id", "at", "seconds", "created_at", "updated_at", "started_at", "finished_at"}
    found = {name: value for name, value in vars(record).items() if name not in others}
    details = record.details if isinstance(record, EventRecord) else None
    if isinstance(details, DispatchIdentity):
        found["details"] = replace(details, dispatch_id="")
    return found


@pytest.mark.parametrize("a", [0.5, 11.0])
def test_a_request_leaves_the_same_record_as_a_run_of_the_showroom(
    inference: Inference, site: Site, workshop: Workshop, a: float
) -> None:
    question = _question(inference, site, "strict", 7, [a, 0.25, -1.0], [1.0, 2.0, 3.0])
    asked = inference.answer("strict", [question])[0]
    showroom = Showroom(site.deployment(), site.event_store(), site.model_pool())
    table = pa.Table.from_batches([question.rows.batch])
    shown = showroom.run(question.model, Wanted(table=table), question.user)
    ids = (_content(asked)["parameters"]["dispatch_id"], shown.dispatch_id)
    served, run = (workshop.events(one) for one in ids)
    assert [*map(_alike, served)] == [*map(_alike, run)]
    record, expected = (workshop.record(one) for one in ids)
    assert _alike(record) == _alike(expected)
    assert record == reduce(summarise, served[1:], summarise(None, served[0]))


def test_many_requests_cost_one_question_to_the_model_and_one_transaction(
    inference: Inference, site: Site
) -> None:
    """The work, not the time: what a request costs is held here."""
    questions = [_question(inference, site, "churn", number) for number in range(TOGETHER)]
    inference.answer("churn", questions)  # the model is ready for such rows
    engine = site.event_store()._engine
    assert engine is not None
    statements: list[str] = []
    with site.model_pool().runtime(questions[0].model) as process:
        calls = process.calls
    commits = inference.commits
    sa.event.listen(engine, "before_cursor_execute", lambda *said: statements.append(said[2].split()[0]))
    for some in (questions, questions[:1]):
        statements.clear()
        answers = inference.answer("churn", some)
        assert all(isinstance(answer, Answer) for answer in answers)
        inserts = [statement for statement in statements if statement not in ("SELECT", "BEGIN")]
        assert inserts == ["INSERT", "INSERT"]
        assert statements.count("SELECT") <= 1
        commits += 1
        calls += 1
        assert (inference.commits, process.calls) == (commits, calls)


@pytest.mark.slow
def test_what_cannot_be_recorded_is_not_answered(tmp_path_factory: pytest.TempPathFactory) -> None:
    workshop = Workshop(tmp_path_factory.mktemp("unrecorded"))
    with workshop.ready():
        site = Site(workshop.config_file)
        with contextlib.closing(site.model_pool()), site.event_store():
            inference = Inference(site)
            questions = [_question(inference, site, "churn", number) for number in range(3)]
            assert all(isinstance(answer, Answer) for answer in inference.answer("churn", questions))
            store = workshop.folder / "events.db"
            store.rename(store.with_suffix(".away"))
            failed = inference.answer("churn", questions)
            assert all(isinstance(one, EventStoreError) for one in failed)
            assert "try again" in str(failed[2])  # not what the store said of a neighbour's rows
            store.with_suffix(".away").rename(store)
            alone = replace(questions[0], user="x" * 1000)  # a name is cut, as in every dispatch
            assert all(isinstance(one, Answer) for one in inference.answer("churn", [alone, questions[1]]))


def test_clients_at_the_same_time_each_get_their_own_answer(client: httpx.Client, workshop: Workshop) -> None:
    def ask(number: int) -> tuple[int, httpx.Response]:
        row = [None, 0.5, 0.5] if number % 10 == 3 else _row(number)
        inputs = [tensor(name, "FP64", [value]) for name, value in zip("abc", row, strict=True)]
        return number, infer(client, "churn", *inputs, id=str(number))

    with ThreadPoolExecutor(16) as threads:
        answers = [*threads.map(ask, range(60))]
    for number, answer in answers:
        if number % 10 == 3:
            assert answer.status_code == 400, answer.text
            continue
        expected = workshop.classifier.predict_proba(workshop.frame([_row(number)]))[0]
        assert answer.json()["id"] == str(number)
        found = outputs(answer)
        assert [found["probability_leaves"][0], found["probability_stays"][0]] == pytest.approx(
            expected, rel=1e-12
        )
