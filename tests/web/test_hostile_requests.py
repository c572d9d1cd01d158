"""No request makes the server fail: hostile values, bodies and forms, and a model that misbehaves."""

from __future__ import annotations

import pickle
import re
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import pytest

from support.airflow_process import RunningAirflow
from web.conftest import Answer, Client

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

TEXTS = (
    "",
    "\0",
    "a\0b",
    "x" * 300,
    "x" * 1001,
    "é" * 9000,
    "x" * 60_000,
    "\ufffe\uffff\U0010ffff",
    "\r\nSet-Cookie: a=b",
    "%00%ff",
    "../../etc/passwd",
    "'; DROP TABLE customers; --",
    "%_[\\",
    "{{ 7 * 7 }}{% include 'x' %}",
    "<script>alert(1)</script>",
    "DAG:churn",
    "churn ",
    "CHURN",
    "model ",
    "model \0",
    "timing churn",
    "-1",
    "0",
    "1e999",
    "9" * 5000,
    "NaN",
    "null",
    "true",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+00:00~x",
    "9999-12-31T23:59:59+00:00~\0",
    "~",
)
KEYS = (
    "[" * 20_000,
    "[" * 400 + "]" * 400,
    "[[1]]",
    '[{"a": 1}]',
    "{}",
    "[]",
    "[1, 2]",
    "[null]",
    "[true]",
    "[NaN]",
    "[1e999]",
    f"[{'9' * 4000}]",
    f"[{2**63}]",
    f"[-{2**63 + 1}]",
    '["\\ud800"]',
    '["\\u0000"]',
    '["\\udfff\\ud800"]',
    f'["{"x" * 9000}"]',
    "[1.5]",
    '["1.5"]',
    '["1_0"]',
    '["\u0661"]',
    "[false, [1]]",
    "[false, {}]",
    "[null, 1]",
    '["x", 1]',
    "[false]",
    "[false, null]",
    "[true, 1]",
    '[false, "\\ud800"]',
)
# Each parameter of each route; a path's own parts are {name}.
ROUTES: dict[str, tuple[str, ...]] = {
    "showroom": ("search",),
    "showroom/{name}": ("search", "sort", "descending", "after", "before"),
    "showroom/{name}/state": (),
    "showroom/{name}/run": (),
    "showroom/{name}/why": (),
    "showroom/{name}/why/{dispatch_id}": (),
    "showroom/{name}/what-if": ("key",),
    "api/v1/showroom/models": (),
    "api/v1/showroom/models/{name}/cases": ("search", "sort", "descending", "after", "before", "page_rows"),
    "dispatches": (
        *("model", "state", "origin", "since", "until", "before", "after", "limit", "part", "tab"),
        *("sort", "descending", "skip"),
    ),
    "dispatches/{dispatch_id}": ("part",),
    "dispatches/of-run": ("dag_id", "run_id"),
    "api/v1/dispatches": ("model", "state", "origin", "since", "until", "before", "limit"),
    "api/v1/dispatches.csv": ("model", "state", "origin", "since", "until"),
    "api/v1/dispatches/{dispatch_id}": (),
    "api/v1/dispatches/{dispatch_id}/predictions": (),
    "api/v1/models/{model}/history": ("limit",),
    "monitor": (),
    "monitor-status": ("search", "group"),
    "monitor/history": ("target",),
    "api/v1/monitor": (),
    "api/v1/monitor/history": ("target",),
    "static/{name}": (),
    "api/v1/openapi.json": (),
}
REQUIRED = {"dispatches/of-run": {"dag_id": "churn", "run_id": "x"}}
REFUSED = {400, 404, 413, 422}


def addresses(route: str, step: int) -> Iterator[str]:
    """A route with hostile values in each place, one at a time: every `step`th, others of the next route."""
    usual = route.replace("{name}", "churn").replace("{model}", "churn")
    for part in re.findall(r"{\w+}", route):
        for text in TEXTS[list(ROUTES).index(route) % step :: step]:
            if text and len(text) < 20_000:
                yield (usual if part == "{dispatch_id}" else route).replace(part, quote(text, safe=""))
    for number, parameter in enumerate((*ROUTES[route], "unknown")):
        others = "".join(
            f"&{name}={value}" for name, value in REQUIRED.get(route, {}).items() if name != parameter
        )
        for text in (*TEXTS, *KEYS)[number % step :: step]:
            if len(quote(text)) <= 60_000:
                yield f"{usual}?{parameter}={quote(text, safe='')}{others}"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.long)], ids=["a quarter", "all"])
def test_no_value_of_a_parameter_makes_the_server_fail(client: Client, route: str, step: int) -> None:
    for address in addresses(route, step):
        answer = client.get(address, accept="text/html")
        assert answer.status == 200 or answer.status in REFUSED, (address[:200], answer.text[-300:])


BODIES: tuple[bytes, ...] = (
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"keys": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    b'{"keys": [[NaN]]}',
    b'{"keys": [[1e999]]}',
    b'{"keys": [[' + b"9" * 4000 + b"]]}",
    b'{"keys": [[9223372036854775808]]}',
    b'{"keys": [["\\ud800"]]}',
    b'{"keys": [["\\u0000"]]}',
    b'{"keys": [[]]}',
    b'{"keys": [[null]]}',
    b'{"keys": [[[1]]]}',
    b'{"keys": [[{"a": 1}]]}',
    b'{"keys": "1"}',
    b'{"keys": [[1]], "rows": [{"a": 1}]}',
    b'{"keys": [[1]], "changes": {"\\ud800": 1}}',
    b'{"keys": [[1]], "changes": {"a": "\\ud800"}}',
    b'{"keys": [[1]], "changes": {"a": "\\u0000"}}',
    b'{"keys": [[1]], "changes": {"a": 1e999}}',
    b'{"keys": [[1]], "changes": {"id": "x"}}',
    b'{"keys": [[1]], "changes": {"nothing": 1}}',
    b'{"rows": [{}]}',
    b'{"rows": [{"a": 1}, {"b": 2}]}',
    b'{"rows": [{"a": "x", "b": true, "c": null}]}',
    b'{"rows": [{"a": 123456789012345678901234567890, "b": 0, "c": 0}]}',
    b'{"rows": [{"a": NaN, "b": Infinity, "c": -Infinity}]}',
    b'{"rows": [{"\\ud800": 1, "b": 2, "c": 3}]}',
    b'{"rows": [{"\\u0000": 1, "a": 1, "b": 2, "c": 3}]}',
    b'{"rows": [{"' + b"x" * 300 + b'": 1}]}',
    b'{"rows": [' + b'{"a": []},' * 999 + b'{"a": []}]}',
    b'{"surprise": 1}',
    b'{"\\ud800": 1}',
    b'{"rows": [{"a": "' + b"x" * (9 << 20) + b'"}]}',
)


@pytest.mark.parametrize("number", range(len(BODIES)))
def test_no_body_makes_the_server_fail(client: Client, number: int) -> None:
    path = "api/v1/showroom/models/churn/runs"
    answer = client.send("POST", path, BODIES[number], "application/json")
    assert answer.status in REFUSED, answer.text[-300:]
    assert isinstance(answer.json["detail"], str)
    assert len(answer.text) < 20_000


FORMS: tuple[bytes, ...] = (
    b"",
    b"key",
    b"key=%FF",
    b"\xff=\xfe",
    b"key=%00",
    b"key=[1]&set.a=%00",
    b"key=[1]&set.%00=1",
    b"key=[1]&set.a=x&was.a=1",
    b"key=[1]&set.nothing=1",
    b"key=[1]&set.=1",
    b"key=[1]&set.a=" + b"9" * 5000,
    b"key=[1]&curve=a&curve.low=nan&curve.high=1e999&continues=" + b"x" * 5000,
    b"key=[1]&curve=nothing&curve.low=-1e308&curve.high=1e308",
    b"key=" + b"[" * 50_000,
    b"key=" + quote('["\\ud800"]').encode(),
    b"key=[1]&" * 300 + b"key=[1]",
    b"key=" + b"x" * (2 << 20),
)


@pytest.mark.parametrize("number", range(len(FORMS)))
@pytest.mark.parametrize("accept", ["text/html", "application/x-ndjson"])
@pytest.mark.parametrize("action", ["run", "why"])
def test_no_form_makes_the_server_fail(client: Client, action: str, accept: str, number: int) -> None:
    form = "application/x-www-form-urlencoded"
    answer = client.send("POST", f"showroom/churn/{action}", FORMS[number], form, accept=accept)
    assert answer.status in {200, *REFUSED}, answer.text[-300:]


@pytest.mark.parametrize("origin", ["http://[", "null", "http://a b", "\u00e9", "http://" + "x" * 9000])
def test_no_origin_makes_the_server_fail(client: Client, origin: str) -> None:
    headers = {"authorization": "", "cookie": "_token=" + client.token, "origin": origin}
    assert client.post("api/v1/showroom/models/churn/runs", {"keys": [[1]]}, **headers).status == 403


def test_every_answer_has_a_status_that_the_description_names(client: Client) -> None:
    described: dict[str, Any] = client.get("api/v1/openapi.json").json
    assert described["servers"] == [{"url": "/mlops"}]
    for route, operations in described["paths"].items():
        path = route.lstrip("/")
        if "get" in operations:
            assert path in ROUTES
            known = {int(status) for status in operations["get"]["responses"]}
            given = {parameter["name"] for parameter in operations["get"].get("parameters", ())}
            assert set(ROUTES[path]) == given - {"name", "dispatch_id", "model"} | (given & set(ROUTES[path]))
            seen = {client.get(address).status for address in addresses(path, 6)}
            assert seen <= known, (route, seen - known)
        for operation in operations.values():
            for status in ("401", "403", "422"):
                answer = operation["responses"][status]["content"]["application/json"]["schema"]
                assert answer == {"$ref": "#/components/schemas/Refusal"}


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
