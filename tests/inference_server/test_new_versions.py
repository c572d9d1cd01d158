"""A new artifact or configuration counts from the next request on, without a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from inference_server.conftest import Callers, infer, outputs, serving, tensor
from mlops_plugin.cli import main
from support.workshop import Workshop

ROW = [tensor(name, "FP64", [value]) for name, value in zip("abc", (0.5, -0.25, 2.0), strict=True)]


@pytest.fixture
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path_factory.mktemp("versions"))
    with workshop.ready():
        yield workshop


@pytest.fixture
def client(workshop: Workshop) -> Iterator[httpx.Client]:
    with serving(workshop.config_file, Callers()) as client:
        yield client


def test_a_new_artifact_answers_the_next_request(client: httpx.Client, workshop: Workshop) -> None:
    before = infer(client, "churn", *ROW)
    assert before.status_code == 200
    old = before.json()["model_version"]
    rows = workshop.frame(np.random.default_rng(1).normal(size=(50, 3)).tolist())
    model = LogisticRegression().fit(rows, np.where(rows["c"] > 0, "stays", "leaves"))
    skops.io.dump(model, workshop.folder / "churn.skops")
    after = infer(client, "churn", *ROW)
    expected = model.predict_proba(workshop.frame([[0.5, -0.25, 2.0]]))[:, 1].tolist()
    assert outputs(after)["probability_stays"] == expected
    new = after.json()["model_version"]
    assert new != old
    assert client.get("/v2/models/churn").json()["versions"] == [new]
    pinned = client.post(f"/v2/models/churn/versions/{old}/infer", json={"inputs": ROW})
    assert pinned.status_code == 404


def test_a_new_contract_judges_the_next_request(client: httpx.Client, workshop: Workshop) -> None:
    assert infer(client, "churn", *ROW).status_code == 200
    workshop.add_model("churn", input={"columns": {"a": {"max": 0.25}}})
    assert infer(client, "churn", *ROW).status_code == 422


def test_a_new_baseline_judges_the_next_request(client: httpx.Client, workshop: Workshop) -> None:
    workshop.add_model("judged", input={"baseline": True})
    assert main(["--config", str(workshop.config_file), "baseline", "judged"]) == 0
    (row,) = workshop.in_source("SELECT a, b, c FROM customers WHERE id = 1")
    inputs = [tensor(name, "FP64", [value]) for name, value in zip("abc", row, strict=True)]
    assert [infer(client, "judged", *inputs).status_code for _ in range(2)] == [200, 200]
    path = workshop.folder / "churn.skops.baseline.json"
    baseline = json.loads(path.read_text())
    baseline["features"]["a"]["max"] = row[0] - 1
    baseline["features"]["a"]["min"] = row[0] - 2
    path.write_text(json.dumps(baseline))
    assert infer(client, "judged", *inputs).status_code == 422
    path.write_text("no baseline")
    assert infer(client, "judged", *inputs).status_code == 400


def test_a_model_whose_configuration_broke_is_not_answered(client: httpx.Client, workshop: Workshop) -> None:
    workshop.add_model("other")
    assert infer(client, "other", *ROW).status_code == 200
    workshop.add_model("other", retries=-1)
    assert infer(client, "other", *ROW).status_code == 503
    assert infer(client, "churn", *ROW).status_code == 200


def test_nothing_is_answered_whose_record_is_not_committed(client: httpx.Client, workshop: Workshop) -> None:
    assert infer(client, "churn", *ROW).status_code == 200
    (workshop.folder / "events.db").chmod(0o600)
    with workshop.deployment.event_store() as store, store.read("breaking it") as connection:
        connection.exec_driver_sql("ALTER TABLE mlops_event RENAME TO gone")
        connection.commit()
    assert infer(client, "churn", *ROW).status_code == 503


def test_an_invalid_configuration_is_not_ready_and_strangers_do_not_read_why(
    client: httpx.Client, workshop: Workshop
) -> None:
    workshop.config_file.write_text("models: {secret_name: [}")
    answer = client.get("/v2/health/ready", headers={"Authorization": ""})
    assert answer.status_code == 503
    assert "secret_name" not in answer.text
    assert str(workshop.folder) not in answer.text
    refused = infer(client, "churn", *ROW)
    assert refused.status_code == 503
    assert "secret_name" not in refused.text
    workshop.write()
    assert infer(client, "churn", *ROW).status_code == 200
