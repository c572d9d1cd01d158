"""Who may ask: what each kind of caller is answered, and what all are if nobody can be known."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference_server.conftest import Callers, infer, tensor
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.inference_server.app import InferenceServer
from mlops_plugin.inference_server.gate import Caller, GateClosed, NotSignedIn
from mlops_plugin.inference_server.inference import Body
from mlops_plugin.inference_server.metrics import Metrics
from mlops_plugin.web.shared_site import Site
from support.workshop import Workshop

INPUTS = [tensor(name, "FP64", [1.0]) for name in "abc"]
MODEL_ROUTES = ("/v2/models/churn", "/v2/models/churn/ready", "/v2/models/churn/versions/1")


@pytest.fixture(autouse=True)
def _usual_callers(gate: Callers) -> None:
    gate.known = {"ada": Caller("ada", may_run_models=True, may_read=True, may_trigger=True)}
    gate.failure = None


def test_nobody_is_answered_about_a_model_without_a_token(client: httpx.Client) -> None:
    anonymous = {"Authorization": ""}
    for route in MODEL_ROUTES:
        assert client.get(route, headers=anonymous).status_code == 401
    refused = client.post("/v2/models/churn/infer", json={"inputs": INPUTS}, headers=anonymous)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    cookie = {**anonymous, "Cookie": "_token=ada"}
    assert client.get("/v2/models/churn", headers=cookie).status_code == 401


@pytest.mark.parametrize(("tokens", "status"), [(("ada", "nobody"), 200), (("nobody", "ada"), 401)])
def test_of_several_tokens_the_first_counts_on_each_route(
    client: httpx.Client, tokens: tuple[str, str], status: int
) -> None:
    headers = [("Authorization", f"Bearer {token}") for token in tokens]
    assert client.get("/v2/models/churn", headers=headers).status_code == status
    answer = client.post("/v2/models/churn/infer", headers=headers, json={"inputs": INPUTS})
    assert answer.status_code == status


def test_a_forbidden_model_looks_like_one_that_is_not_there(client: httpx.Client, gate: Callers) -> None:
    gate.known["ada"] = Caller("ada", may_run_models=True, may_read=False, may_trigger=False)
    forbidden, unknown = infer(client, "churn", *INPUTS), infer(client, "chorn", *INPUTS)
    assert (forbidden.status_code, unknown.status_code) == (404, 404)
    assert forbidden.text == unknown.text.replace("chorn", "churn")


def test_running_takes_the_permission_and_the_right_to_trigger(client: httpx.Client, gate: Callers) -> None:
    for may_run_models, may_trigger in ((False, True), (True, False)):
        gate.known["ada"] = Caller("ada", may_run_models, may_read=True, may_trigger=may_trigger)
        assert infer(client, "churn", *INPUTS).status_code == 403
        assert all(client.get(route).status_code == 403 for route in MODEL_ROUTES)


def test_who_takes_long_to_send_a_request_must_still_be_allowed_to(
    site: Site, gate: Callers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_plugin.inference_server.app.TRUSTED_S", 0.0)
    server = InferenceServer(site, gate, Metrics(tmp_path))

    async def read() -> Body:
        gate.known.clear()  # the token is revoked
        return Body(json.dumps({"inputs": INPUTS}).encode(), None, None)

    with pytest.raises(NotSignedIn):
        asyncio.run(server.infer("churn", "ada", read))


def test_who_may_no_longer_ask_once_the_answer_is_there_does_not_get_it(
    workshop: Workshop, site: Site, gate: Callers, tmp_path: Path
) -> None:
    server = InferenceServer(site, gate, Metrics(tmp_path))
    before = len(workshop.records())

    async def read() -> Body:
        gate.known.clear()  # the token is revoked after the request was let in
        return Body(json.dumps({"inputs": INPUTS}).encode(), None, None)

    with pytest.raises(NotSignedIn):
        asyncio.run(server.infer("churn", "ada", read))
    assert len(workshop.records()) == before + 1


@pytest.mark.parametrize("route", MODEL_ROUTES[:2])
def test_a_description_is_for_those_who_may_still_read_it_once_the_model_is_loaded(
    client: httpx.Client, gate: Callers, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    describe = InferenceServer.described

    async def describe_slowly(server: InferenceServer, model: ModelConfig, version: str | None) -> Any:
        described = await describe(server, model, version)
        gate.known.clear()  # the token is revoked meanwhile
        return described

    monkeypatch.setattr(InferenceServer, "described", describe_slowly)
    assert client.get(route).status_code == 401


def test_nothing_is_answered_while_nobody_can_be_known(
    client: httpx.Client, gate: Callers, workshop: Workshop
) -> None:
    gate.failure = GateClosed("Airflow's database is away")
    before = len(workshop.records())
    assert infer(client, "churn", *INPUTS).status_code == 503
    assert all(client.get(route).status_code == 503 for route in MODEL_ROUTES)
    assert len(workshop.records()) == before
