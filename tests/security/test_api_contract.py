"""Whatever is sent, the API answers as its OpenAPI document says: schemathesis makes the requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

from support.airflow_process import RunningAirflow
from web.conftest import Client, clients, web_airflow  # noqa: F401 -- fixtures

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

EXAMPLES = 40  # of each operation, valid and invalid ones
# Names in a path that exist, so that a request comes further than to "there is none of that name".
KNOWN: Mapping[str, str] = {"name": "churn", "model": "churn"}


@pytest.fixture(scope="module")
def described(web_airflow: RunningAirflow, clients: dict[str, Client]) -> Any:  # noqa: F811
    """The API as an administrator finds it described."""
    document = clients["Admin"].get("api/v1/openapi.json").json
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=web_airflow.api.url + document["servers"][0]["url"])
    return schema


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_every_answer_is_as_described(case: schemathesis.Case[Any], clients: dict[str, Client]) -> None:  # noqa: F811
    headers = {"authorization": f"Bearer {clients['Admin'].token}"}
    # Which names a model's columns have is not in the document: a valid request may name others (422).
    case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance], timeout=60)
    if names := {name: KNOWN[name] for name in case.path_parameters or {} if name in KNOWN}:
        case.path_parameters.update(names)
        case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance], timeout=60)
