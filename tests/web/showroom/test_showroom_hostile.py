"""A model that misbehaves, behind a real API server that must not notice."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import pytest

from support.airflow_process import RunningAirflow
from web.conftest import Answer, Client

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

RUNS = "api/v1/showroom/models/hostile/runs"
HANGS, EXITS, GROWS, PRINTS = 100, 101, 102, 103
LONG = "10m"

# Made when it is loaded, so that the server needs no module of the tests.
_MODEL = """
type("Hostile", (), {
    "n_features_in_": 3,
    "_estimator_type": "regressor",
    "predict": lambda self, rows: {
        100: lambda: __import__("time").sleep(3600),
        101: lambda: __import__("os")._exit(7),
        102: lambda: [bytearray(1 << 30) for _ in range(1000)],
        103: lambda: print("x" * 100000),
    }.get(int(rows[0][0]), int)() or rows[:, 0],
})()
"""


class _Source:
    def __reduce__(self) -> Any:
        return eval, (_MODEL.strip(),)


Serving = Callable[[str], None]


@pytest.fixture(scope="module")
def serving(web_airflow: RunningAirflow) -> Iterator[Serving]:
    """A model beside `churn`, with little memory; says how long it may take, which ends what runs."""
    workshop = web_airflow.workshop
    content = pickle.dumps(_Source())
    (workshop.folder / "hostile.pickle").write_bytes(content)
    artifact = {"format": "pickle", "uri": "hostile.pickle", "sha256": sha256(content).hexdigest()}
    workshop.add_model("hostile", model=artifact, features=["a", "b", "c"])

    def serve(timeout: str) -> None:
        workshop.sections["serving"] = {"timeout": timeout, "memory_mb": 900}
        workshop.write()

    yield serve
    del workshop.sections["serving"], workshop.models["hostile"]
    workshop.write()


def _run(client: Client, a: float) -> Answer:
    return client.post(RUNS, {"rows": [{"a": a, "b": 0, "c": 0}]})


@pytest.mark.parametrize(
    ("deed", "said"),
    [(HANGS, "did not answer within 3 s"), (EXITS, "exit status 7"), (GROWS, "more memory than the 900 MB")],
)
def test_an_error_says_what_the_model_did_and_the_next_run_works(
    client: Client, serving: Serving, deed: int, said: str
) -> None:
    serving("3s" if deed == HANGS else LONG)
    answer = _run(client, deed)
    assert answer.status == 503
    assert said in answer.json["detail"]
    serving(LONG)
    after = _run(client, 5)
    assert after.json.get("predictions") == [{"id": 1, "prediction": 5.0}], after.json


def test_what_a_model_prints_is_not_its_answer(client: Client, serving: Serving) -> None:
    serving(LONG)
    assert _run(client, PRINTS).json["predictions"] == [{"id": 1, "prediction": float(PRINTS)}]


def test_others_do_not_notice_a_model_that_hangs(client: Client, serving: Serving) -> None:
    serving(LONG)
    _run(client, 1)
    answers: list[Answer] = []
    hanging = threading.Thread(target=lambda: answers.append(_run(client, HANGS)))
    hanging.start()
    for _ in range(3):
        assert client.page("showroom").status == 200
        assert client.post("api/v1/showroom/models/churn/runs", {"keys": [[1]]}).status == 200
    assert hanging.is_alive()
    serving("3s")
    client.post("api/v1/showroom/models/churn/runs", {"keys": [[1]]})  # the configuration is read again
    hanging.join()
    assert answers[0].status == 503
