"""Requests that are answered together: what could not be recorded is not answered, and nothing is half."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from inference_server.conftest import tensor
from mlops_plugin.errors import EventStoreError
from mlops_plugin.events import tables
from mlops_plugin.inference_server.inference import Body, Inference, Question
from mlops_plugin.inference_server.inference_answers import Answer
from mlops_plugin.web.shared_site import Site
from support.servers import ServerDatabase
from support.severing_proxy import SeveringProxy, severing_proxy
from support.workshop import Workshop

TOGETHER = 3


@pytest.fixture
def proxy(mariadb_database: ServerDatabase) -> Iterator[SeveringProxy]:
    with severing_proxy(mariadb_database.host, mariadb_database.port, tables.events.name) as proxy:
        yield proxy


@pytest.fixture
def site(
    tmp_path_factory: pytest.TempPathFactory, mariadb_database: ServerDatabase, proxy: SeveringProxy
) -> Iterator[Site]:
    workshop = Workshop(tmp_path_factory.mktemp("lost"))
    workshop.connections["events"] = replace(mariadb_database, port=proxy.port).airflow_uri()
    with workshop.ready():
        site = Site(workshop.config_file)
        with contextlib.closing(site.model_pool()), site.event_store():
            yield site


def _questions(inference: Inference, site: Site) -> list[Question]:
    model = site.loaded().config.models["churn"]
    described = inference.describe(model, None)
    inputs = [tensor(name, "FP64", [0.5]) for name in "abc"]
    body = Body(json.dumps({"inputs": inputs}).encode(), None, None)
    return [Question.of(model, f"user {number}", body, described) for number in range(TOGETHER)]


def test_a_batch_is_recorded_whole_or_not_at_all_and_answered_only_if_it_is(
    site: Site, proxy: SeveringProxy, mariadb_database: ServerDatabase
) -> None:
    inference = Inference(site)
    questions = _questions(inference, site)
    dispatches, events = tables.dispatches.name, tables.events.name

    mariadb_database.execute(f"RENAME TABLE {events} TO away")  # the second statement of three fails
    refused = inference.answer("churn", questions)
    assert [type(one) for one in refused] == [EventStoreError] * TOGETHER
    assert mariadb_database.rows(f"SELECT * FROM {dispatches}") == []
    mariadb_database.execute(f"RENAME TABLE away TO {events}")

    assert all(isinstance(one, Answer) for one in inference.answer("churn", questions))
    proxy.is_armed = True  # of the next commit, nobody hears that it has come
    answers = inference.answer("churn", questions)
    assert proxy.severed == 1
    told = [re.search(rb'"dispatch_id":"([^"]+)"', one.content) for one in answers if isinstance(one, Answer)]
    known = mariadb_database.rows(f"SELECT dispatch_id FROM {dispatches}")
    assert len(known) == len({*known}) == 2 * TOGETHER
    assert {(one[1].decode(),) for one in told if one} <= {*known}
    assert len(told) == TOGETHER
