"""Airflow's API as `make up` calls it, against a server that fails now and then."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from local_stack import demo
from local_stack.airflow_api import AirflowApi
from local_stack.demo import start_run, switch_on
from local_stack.progress import LocalStackError

NO_CONTENT = 204
SLOW = 0  # in place of a status: no answer at all


@contextmanager
def answering(
    *statuses: int, timeout_s: float = 60.0, tries: int = 3
) -> Iterator[tuple[AirflowApi, list[str]]]:
    """A server that gives these answers in turn, then the last again, and the requests that it was sent."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = statuses[min(len(asked), len(statuses) - 1)]
            asked.append(self.command)
            if status == SLOW:
                self.rfile.read(1)  # until the caller has hung up
                return
            self.send_response(status)
            self.end_headers()
            if status != NO_CONTENT:
                self.wfile.write(b'{"dag_runs": [], "access_token": "t"}')

        do_GET = do_PATCH = do_POST = do_DELETE = answer  # noqa: N815 - the names that the library calls

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            pauses_s = (0.0,) * (tries - 1)
            api = AirflowApi("127.0.0.1", server.server_port, timeout_s=timeout_s, pauses_s=pauses_s)
            yield api, asked
        finally:
            server.shutdown()


def test_request_that_changes_nothing_twice_is_repeated_while_the_server_fails() -> None:
    with answering(500, 500, 200) as (api, asked):
        assert api.runs("wine") == []
    assert asked == ["GET"] * 3
    with answering(500, 200) as (api, asked):
        api.unpause("wine")
    assert asked == ["PATCH"] * 2


@pytest.mark.slow
def test_server_that_is_too_slow_once_is_asked_again() -> None:
    with answering(SLOW, 200, timeout_s=0.5, tries=100) as (api, asked):
        assert api.runs("wine") == []
    assert asked[:2] == ["GET"] * 2  # more if this machine, too, takes half a second


def test_sign_in_is_tried_again() -> None:
    with answering(500, 200) as (api, asked):
        api.sign_in("secret")
    assert asked == ["POST"] * 2


def test_a_run_that_could_not_be_started_is_started_again() -> None:
    with answering(200, 500, 200) as (api, asked):
        start_run(api, "wine")
    assert asked == ["GET", "POST"] * 2
    with answering(200, 500, 200, 500, 200, 500) as (api, asked), pytest.raises(LocalStackError, match="500"):
        start_run(api, "wine")
    assert asked == ["GET", "POST"] * 3


def test_demo_model_is_started_by_its_schedule_or_by_hand_if_it_has_none() -> None:
    scheduled: Any = SimpleNamespace(schedule="@hourly")
    by_hand: Any = SimpleNamespace(schedule=None)
    with answering(*[200] * 2) as (api, asked):
        switch_on(api, {"wine": scheduled})
    assert asked == ["GET", "PATCH"]
    with answering(*[200] * 3) as (api, asked):
        switch_on(api, {"wine": by_hand})
    assert asked == ["PATCH", "GET", "POST"]


def test_demo_model_whose_schedule_starts_nothing_is_started_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "STARTED_WITHIN_S", 0.0)
    monkeypatch.setattr(demo, "DISPATCHED_WITHIN_S", 240.0)
    scheduled: Any = SimpleNamespace(schedule="@hourly")
    with answering(200) as (api, asked):

        def dispatches(**_: object) -> list[SimpleNamespace]:
            return [SimpleNamespace(dag_id="wine", error="")] if "POST" in asked else []

        events: Any = SimpleNamespace(dispatches=dispatches)
        supervisor: Any = SimpleNamespace(check=lambda: None)
        layout: Any = None
        demo._dispatch_missing(api, events, {"wine": scheduled}, layout, supervisor)
    assert (asked[1], asked.count("POST")) == ("PATCH", 1)


def test_server_that_goes_on_failing_is_an_error_that_says_so() -> None:
    with (
        answering(500, 500, 500) as (api, _),
        pytest.raises(LocalStackError, match="500"),
    ):
        api.runs("wine")


def test_a_run_is_not_started_twice() -> None:
    with answering(500) as (api, asked), pytest.raises(LocalStackError, match="500"):
        api.trigger("wine")
    assert asked == ["POST"]


def test_refusal_is_not_repeated() -> None:
    with answering(403) as (api, asked), pytest.raises(LocalStackError, match="403"):
        api.runs("wine")
    assert asked == ["GET"]


def test_answer_without_content_is_a_success() -> None:
    with answering(NO_CONTENT) as (api, asked):
        assert api.call("DELETE", "/api/v2/dags/wine/dagRuns/one") == {}
    assert asked == ["DELETE"]
