"""Rows that break the contract: refused with their reasons, and without harm to the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from inference_server.conftest import Callers, infer, outputs, serving, tensor
from support.workshop import Workshop


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path_factory.mktemp("contract"))
    columns = {"a": {"nullable": False, "max": 10}, "b": {"max": 5, "on_violation": "fail"}, "d": {"min": 0}}
    workshop.add_model("strict", input={"columns": columns})
    workshop.add_model(
        "lenient", input={"columns": {"a": {"on_violation": "impute", "impute": 1.5, "max": 10}}}
    )
    workshop.add_model("keyed", key=["a"], source={"query": "SELECT a, b, c FROM customers"})
    with workshop.ready():
        yield workshop


@pytest.fixture(scope="module")
def client(workshop: Workshop) -> Iterator[httpx.Client]:
    with serving(workshop.config_file, Callers()) as client:
        yield client


def _inputs(a: list[Any], **others: list[Any]) -> list[dict[str, Any]]:
    rows = {"a": a, **dict.fromkeys(("b", "c", "d"), [0.5] * len(a)), **others}
    return [tensor(name, "FP64", values) for name, values in rows.items()]


def test_rejected_rows_are_null_and_have_their_reasons(client: httpx.Client, workshop: Workshop) -> None:
    answer = infer(client, "strict", *_inputs([1, None, 2, 11]))
    alone = outputs(infer(client, "strict", *_inputs([1, 2])))
    found = outputs(answer)
    for name, (first, second) in alone.items():
        assert found[name] == [first, None, second, None]
    parameters = answer.json()["parameters"]
    assert [(one["row"], one["column"]) for one in parameters["rejected"]] == [(1, "a"), (3, "a")]
    record = workshop.record(parameters["dispatch_id"])
    assert (record.state, record.rows_predicted, record.rows_rejected) == ("succeeded", 2, 2)


def test_an_output_with_a_rejected_row_is_never_binary(client: httpx.Client) -> None:
    answer = infer(client, "strict", *_inputs([1, 11]), parameters={"binary_data_output": True})
    assert "Inference-Header-Content-Length" not in answer.headers
    assert [values[1] for values in outputs(answer).values()] == [None, None, None]


def test_a_request_without_a_valid_row_is_an_error_with_the_reasons(client: httpx.Client) -> None:
    answer = infer(client, "strict", *_inputs([11]))
    assert answer.status_code == 422
    said = answer.json()
    assert said["parameters"]["rejected"][0]["value"] == "11.0"
    assert "outputs" not in said
    assert "row 0: a" in said["error"]


def test_a_violation_that_ends_a_dispatch_ends_the_request(client: httpx.Client, workshop: Workshop) -> None:
    answer = infer(client, "strict", *_inputs([1, 2], b=[0.5, 6]))
    assert answer.status_code == 400
    assert workshop.records("strict")[0].state == "failed"


def test_a_column_that_only_the_contract_names_must_be_sent(client: httpx.Client) -> None:
    answer = infer(client, "strict", *_inputs([1])[:3])
    assert answer.status_code == 400
    assert "'d'" in answer.json()["error"]


def test_replaced_values_are_those_of_the_contract(client: httpx.Client) -> None:
    replaced = infer(client, "lenient", *_inputs([11])[:3])
    assert outputs(replaced) == outputs(infer(client, "lenient", *_inputs([1.5])[:3]))


def test_a_model_that_knows_no_null_refuses_the_request(client: httpx.Client) -> None:
    assert infer(client, "churn", *_inputs([1, None])[:3]).status_code == 400


def test_a_key_of_null_is_the_requests_mistake(client: httpx.Client) -> None:
    answer = infer(client, "lenient", *_inputs([1])[:3], tensor("id", "INT64", [None]))
    assert answer.status_code == 400
    assert "'id'" in answer.json()["error"]


def test_a_key_that_the_model_reads_is_never_made_up(client: httpx.Client) -> None:
    answer = infer(client, "keyed", *_inputs([1])[1:3])
    assert answer.status_code == 400
    assert "'a'" in answer.json()["error"]
