"""Whatever is sent, the API answers as its OpenAPI document says: schemathesis makes the requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import hypothesis
import pytest

from support.airflow_process import RunningAirflow
from web.conftest import Client, clients, web_airflow  # noqa: F401 -- fixtures

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

EXAMPLES = 12  # of each operation
OPERATIONS = 10  # at least
MODES = ["positive", "negative"]
# Names in a path that exist, so that a request comes further than to "there is none of that name".
KNOWN: Mapping[str, str] = {"name": "churn", "model": "churn"}


@pytest.mark.parametrize("mode", MODES)
def test_every_answer_is_as_described(
    web_airflow: RunningAirflow,  # noqa: F811
    clients: dict[str, Client],  # noqa: F811
    mode: str,
) -> None:
    # Here, because it takes a second that whoever collects the tests would wait for.
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    assert {each.value for each in GenerationMode} == {*MODES}
    # Which columns a model has is not in the document: a valid request may name others, and gets 422.
    not_in_the_document = [positive_data_acceptance]
    document = clients["Admin"].get("api/v1/openapi.json").json
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=web_airflow.api.url + document["servers"][0]["url"])
    headers = {"Authorization": f"Bearer {clients['Admin'].token}"}
    operations = [cast("Any", found).ok() for found in schema.get_all_operations()]
    assert len(operations) >= OPERATIONS
    for operation in operations:

        @hypothesis.settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=GenerationMode(mode)))
        def answers_as_described(case: Any) -> None:
            case.call_and_validate(headers=headers, excluded_checks=not_in_the_document, timeout=60)
            if known := {name: KNOWN[name] for name in case.path_parameters or {} if name in KNOWN}:
                case.path_parameters.update(known)
                case.call_and_validate(headers=headers, excluded_checks=not_in_the_document, timeout=60)

        answers_as_described()
