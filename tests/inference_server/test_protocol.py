"""The routes of the Open Inference Protocol, asked as any of its clients would."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from inference_server.conftest import infer, outputs, tensor
from mlops_plugin.formats.runtime import artifact_sha256
from mlops_plugin.formats.signature.signature_writer import write_signature
from support import shop_code
from support.workshop import Workshop

A, B, C = tensor("a", "FP64", [1.5, -2]), tensor("b", "FP64", [0, 0.5]), tensor("c", "FP64", [3.25, 1])


def test_the_server_says_that_it_lives_is_ready_and_what_it_is(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]


def test_metadata_names_inputs_outputs_and_version(client: httpx.Client, workshop: Workshop) -> None:
    described = client.get("/v2/models/churn").json()
    assert [(one["name"], one["datatype"], one["shape"]) for one in described["inputs"]] == [
        (name, "FP64", [-1]) for name in "abc"
    ]
    assert [(one["name"], one["datatype"]) for one in described["outputs"]] == [
        ("prediction", "BYTES"),
        ("probability_leaves", "FP64"),
        ("probability_stays", "FP64"),
    ]
    (version,) = described["versions"]
    answer = infer(client, "churn", A, B, C).json()
    assert answer["model_version"] == version
    assert client.get(f"/v2/models/churn/versions/{version}/ready").json() == {"name": "churn", "ready": True}
    assert client.get("/v2/models/churn/versions/1/ready").status_code == 404


def test_an_answer_is_on_record_with_who_asked(client: httpx.Client, workshop: Workshop) -> None:
    answer = infer(client, "churn", A, B, C, id="42").json()
    assert answer["id"] == "42"
    record = workshop.record(answer["parameters"]["dispatch_id"])
    assert (record.origin, record.state, record.requested_by) == ("showroom", "succeeded", "ada")
    assert (record.rows_collected, record.rows_predicted, record.rows_persisted) == (2, 2, 0)
    assert record.artifact_sha256 == answer["model_version"]


def test_each_form_of_the_same_rows_has_the_same_answer(client: httpx.Client, workshop: Workshop) -> None:
    expected = outputs(infer(client, "churn", A, B, C))
    model = workshop.classifier
    rows = workshop.frame([[1.5, 0, 3.25], [-2, 0.5, 1]])
    assert expected["prediction"] == model.predict(rows).tolist()
    assert expected["probability_stays"] == model.predict_proba(rows)[:, 1].tolist()
    columns = [{**one, "shape": [2, 1], "data": [[value] for value in one["data"]]} for one in (A, B, C)]
    flat = tensor("features", "FP64", [1.5, 0, 3.25, -2, 0.5, 1], [2, 3])
    nested = {**flat, "data": [[1.5, 0, 3.25], [-2, 0.5, 1]]}
    whole = tensor("features", "FP32", [1.5, 0, 3.25, -2, 0.5, 1], [2, 3])
    for form in ([C, A, B], columns, [flat], [nested], [whole]):
        assert outputs(infer(client, "churn", *form)) == expected


def _binary(client: httpx.Client, head: dict[str, Any], *parts: bytes, **headers: str) -> httpx.Response:
    start = json.dumps(head).encode()
    sizes = {"Inference-Header-Content-Length": str(len(start)), **headers}
    return client.post("/v2/models/churn/infer", content=b"".join([start, *parts]), headers=sizes)


def test_binary_tensors_go_both_ways(client: httpx.Client) -> None:
    head = {
        "inputs": [
            {"name": "a", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": 16}},
            {"name": "b", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}},
            C,
        ],
        "outputs": [
            {"name": "probability_stays", "parameters": {"binary_data": True}},
            {"name": "probability_leaves"},
            {"name": "prediction", "parameters": {"binary_data": True}},
        ],
    }
    answer = _binary(client, head, struct.pack("<2d", 1.5, -2), struct.pack("<2f", 0, 0.5))
    assert answer.status_code == 200, answer.text
    expected = outputs(infer(client, "churn", A, B, C))
    size = int(answer.headers["Inference-Header-Content-Length"])
    stays, leaves, prediction = json.loads(answer.content[:size])["outputs"]
    assert leaves["data"] == expected["probability_leaves"]
    assert stays["parameters"] == {"binary_data_size": 16}
    binary = answer.content[size:]
    assert [*struct.unpack("<2d", binary[:16])] == expected["probability_stays"]
    texts = b"".join(struct.pack("<I", len(text)) + text.encode() for text in expected["prediction"])
    assert binary[16:] == texts
    assert prediction["parameters"] == {"binary_data_size": len(texts)}


def test_all_outputs_are_binary_if_the_request_says_so(client: httpx.Client) -> None:
    answer = infer(client, "churn", A, B, C, parameters={"binary_data_output": True})
    size = int(answer.headers["Inference-Header-Content-Length"])
    found = json.loads(answer.content[:size])["outputs"]
    assert all("data" not in output for output in found)
    assert sum(output["parameters"]["binary_data_size"] for output in found) == len(answer.content) - size


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ([A, B], "'c'"),
        ([A, B, C, tensor("d", "FP64", [1, 2])], "'d'"),
        ([A, A, B, C], "'a'"),
        ([A, B, tensor("c", "FP64", [1])], "'c'"),
        ([A, B, tensor("c", "FP64", [1], [2])], "'c'"),
        ([A, B, tensor("c", "FP64", [1, 2, 3, 4], [2, 2])], "'c'"),
        ([A, B, tensor("c", "FP16", [1, 2])], "FP16"),
        ([A, B, tensor("c", "FP64", ["1", "2"])], "'1'"),
        ([A, B, tensor("c", "FP64", [True, False])], "True"),
        ([A, B, tensor("c", "INT32", [1.0, 2.0])], "1.0"),
        ([A, B, tensor("c", "INT8", [1, 128])], "INT8"),
        ([A, B, tensor("c", "UINT8", [-1, 1])], "UINT8"),
        ([A, B, tensor("c", "FP32", [1e39, 1])], "FP32"),
        ([A, B, tensor("c", "FP32", [16777217, 1])], "FP32"),
        ([A, B, tensor("c", "FP64", [2**53 + 1, 1])], "FP64"),
        ([A, B, tensor("c", "BYTES", ["one", "two"])], "'c'"),
        ([tensor("features", "FP64", [1.0] * 4, [1, 4])], "features"),
        ([tensor("features", "FP64", [1.0] * 3, [3])], "features"),
        ([tensor("features", "FP64", [1.0] * 3, [1, 3]), tensor("a", "FP64", [1])], "'a'"),
        (
            [tensor("a", "FP64", [], [0]), tensor("b", "FP64", [], [0]), tensor("c", "FP64", [], [0])],
            "0 rows",
        ),
        ([{**A, "parameters": {"binary_data_size": 16}}, B, C], "'a'"),
        ([{"name": "a", "datatype": "FP64", "shape": [2]}, B, C], "'a'"),
        ([{**A, "shape": [-2]}, B, C], "shape"),
        ([{**A, "shape": [10**4000, 10**4000]}, B, C], "shape"),
        ([{**A, "shape": [1, 10**15]}, B, C], "columns"),
        ([tensor("a", "FP64", [1.0], [1001])], "1001 rows"),  # said before the values are looked at
        ([], "inputs"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_name(
    client: httpx.Client, inputs: list[dict[str, Any]], names: str
) -> None:
    answer = infer(client, "churn", *inputs)
    assert answer.status_code == 400
    assert [*answer.json()] == ["error"]
    assert names in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'{"inputs": [NaN]}', b"[" * 100_000])
def test_what_is_no_request_is_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v2/models/churn/infer", content=body)
    assert answer.status_code == 400
    assert [*answer.json()] == ["error"]


@pytest.mark.parametrize(
    ("size", "parts"),
    [(16, [b"0" * 15]), (16, [b"0" * 17]), (15, [b"0" * 15]), (-1, [b""]), (1 << 70, [b"0" * 16])],
)
def test_binary_data_of_another_size_are_refused(client: httpx.Client, size: int, parts: list[bytes]) -> None:
    a = {"name": "a", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": size}}
    assert _binary(client, {"inputs": [a, B, C]}, *parts).status_code == 400


@pytest.mark.parametrize("length", ["-1", "x", "100000", "²", "9" * 5000])
def test_a_wrong_length_of_the_header_is_refused(client: httpx.Client, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length.encode("latin-1", "replace")}
    answer = client.post("/v2/models/churn/infer", content=b'{"inputs": []}', headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 400


_MORE_THAN_BUFFERED = 32 << 20
_POST = b"POST /v2/models/churn/infer HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (b"GET /v2 HTTP/1.1\r\nX: ", b"x" * 8192),
        (b"GET /v2 HTTP/1.1\r\nHost: x\r\n", b"a: " + b"x" * 1000 + b"\r\n"),
        (b"GET /v2?", b"x" * 8192),
        (_POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n0\r\nX: ", b"x" * 8192),
        (_POST + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 8192),
    ],
    ids=["header", "headers", "address", "trailer", "size of a chunk"],
)
def test_a_head_without_end_is_given_up(client: httpx.Client, begin: bytes, again: bytes) -> None:
    url = client.base_url
    with socket.create_connection((url.host, url.port or 80), 20) as connection:
        connection.sendall(begin)
        with pytest.raises(ConnectionError):  # it has hung up
            connection.sendall(again * (_MORE_THAN_BUFFERED // len(again)))
    assert client.get("/v2/health/live").status_code == 200


def test_a_long_request_in_small_chunks_is_answered_like_a_short_one(client: httpx.Client) -> None:
    rows = {name: [number / 7 for number in range(1000)] for name in "abc"}
    inputs = [tensor(name, "FP64", values) for name, values in rows.items()]
    content = json.dumps({"inputs": inputs, "padding": "x" * 300_000}).encode()
    pieces = (content[at : at + 100] for at in range(0, len(content), 100))
    answer = client.post("/v2/models/churn/infer", content=pieces)
    assert outputs(answer) == outputs(infer(client, "churn", *inputs))


def test_wrong_outputs_are_refused(client: httpx.Client) -> None:
    for wanted in ("nothing", "id"):
        assert infer(client, "churn", A, B, C, outputs=[{"name": wanted}]).status_code == 400
    top = [{"name": "prediction", "parameters": {"classification": 2}}]
    assert infer(client, "churn", A, B, C, outputs=top).status_code == 400


def test_unknown_models_and_routes_have_the_protocols_error(client: httpx.Client) -> None:
    for answer in (infer(client, "unknown", A), client.get("/v2/models/unknown"), client.get("/v2/else")):
        assert answer.status_code == 404
        assert [*answer.json()] == ["error"]
    assert client.get("/v2/models/churn/infer").status_code == 405


def test_a_model_may_be_called_infer(client: httpx.Client, workshop: Workshop) -> None:
    workshop.add_model("infer")
    assert client.get("/v2/models/infer").json()["name"] == "infer"
    assert infer(client, "infer", A, B, C).status_code == 200


def test_decimals_are_announced_as_what_is_accepted(client: httpx.Client, workshop: Workshop) -> None:
    rows = pd.DataFrame({"price": [Decimal(number) / 4 for number in range(24)]})
    model = make_pipeline(FunctionTransformer(shop_code.squares), LinearRegression())
    model.fit(rows, np.arange(24.0))
    path = str(workshop.folder / "prices.joblib")
    joblib.dump(model, path)
    write_signature(model, rows, path)
    artifact = {"format": "joblib", "uri": path, "sha256": artifact_sha256(path)}
    workshop.add_model("prices", model=artifact)
    (price,) = client.get("/v2/models/prices").json()["inputs"]
    assert price["datatype"] == "BYTES"
    answer = infer(client, "prices", tensor("price", price["datatype"], ["1.75"]))
    assert outputs(answer)["prediction"] == pytest.approx(model.predict(rows[7:8]).tolist())


def test_curl_gets_an_answer(client: httpx.Client) -> None:
    body = json.dumps({"inputs": [A, B, C]})
    command = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*"]
    command += ["--header", "Authorization: Bearer ada", "--data", body]
    done = subprocess.run(
        [*command, f"{client.base_url}/v2/models/churn/infer"], check=True, capture_output=True
    )
    answered = {output["name"]: output["data"] for output in json.loads(done.stdout)["outputs"]}
    assert answered == outputs(infer(client, "churn", A, B, C))


def test_tritonclient_is_answered_in_json_and_in_binary(client: httpx.Client, workshop: Workshop) -> None:
    script = Path(__file__).parents[1] / "support" / "triton_questions.py"
    command = [sys.executable, str(script), client.base_url.netloc.decode(), "churn"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["live"], found["ready"], found["model_ready"]) == (True, True, True)
    assert found["metadata"] == client.get("/v2/models/churn").json()
    rows = workshop.frame([[1.5, 0, 3.25], [-2, 0.5, 1]])
    expected = {
        "prediction": workshop.classifier.predict(rows).tolist(),
        "probability_stays": workshop.classifier.predict_proba(rows)[:, 1].tolist(),
    }
    for form in ("json matrix", "json columns", "binary matrix", "binary columns"):
        assert found[form] == expected
    assert found["refusal"][0] == "400"


def test_the_description_of_the_api_names_every_route(client: httpx.Client) -> None:
    document = client.get("/v2/openapi.json").json()
    paths = document["paths"]
    assert {"/v2", "/v2/health/live", "/v2/health/ready"} < {*paths}
    asked = paths["/v2/models/{name}/infer"]["post"]
    assert asked["security"] == [{"airflow": []}]
    assert {"400", "401", "403", "404", "422", "429", "503"} <= {*asked["responses"]}
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert {"InferRequest", "InputTensor", "Refusal"} <= referred <= {*document["components"]["schemas"]}


def test_clients_that_hang_up_leave_the_answers_of_others_alone(client: httpx.Client) -> None:
    assert infer(client, "churn", *_row(0)).status_code == 200  # it is loaded
    left = [_asked_by_hand(client, number) for number in range(1, 6)]
    with ThreadPoolExecutor(6) as threads:
        others = [threads.submit(infer, client, "churn", *_row(number)) for number in range(10, 16)]
        for one in left:
            one.close()
        found = [outputs(other.result()) for other in others]
    assert found == [outputs(infer(client, "churn", *_row(number))) for number in range(10, 16)]
    assert "mlops_serve_requests_waiting 0\n" in client.get("/metrics").text


def _row(number: int) -> list[dict[str, Any]]:
    return [tensor(name, "FP64", [number / 7]) for name in "abc"]


def _asked_by_hand(client: httpx.Client, number: int) -> socket.socket:
    """A connection on which a request was sent, and whose answer nobody awaits."""
    url = client.base_url
    body = json.dumps({"inputs": _row(number)}).encode()
    head = f"POST /v2/models/churn/infer HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer ada\r\n"
    connection = socket.create_connection((url.host, url.port or 80))
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection
