"""Airflow's public REST API, as its user `admin` would call it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from local_stack.progress import LocalStackError

COMPONENTS = {  # ours -> as the health page calls it
    "api-server": "metadatabase",
    "scheduler": "scheduler",
    "dag-processor": "dag_processor",
    "triggerer": "triggerer",
}
TIMEOUT_S = 60.0  # starting a run takes a busy machine its time
# What may be asked again: SQLite on a busy machine fails a request that succeeds a moment later.
_REPEATABLE = ("GET", "PATCH")
_PAUSES_S = (0.5, 1.0, 2.0, 4.0)


class Unreachable(LocalStackError):
    """Nobody answers, or not yet."""


class TimedOut(Unreachable):
    """Connected, but no answer came in time."""


class ServerFailed(LocalStackError):
    """Airflow answered that something went wrong on its side."""


class AirflowApi:
    """One Airflow on this machine; `sign_in` comes before everything but `health`.

    A request that may be repeated is sent again after each of `pauses_s`, if the server fails or does not
    answer within `timeout_s`.
    """

    def __init__(
        self, host: str, port: int, *, timeout_s: float = TIMEOUT_S, pauses_s: Sequence[float] = _PAUSES_S
    ) -> None:
        self.host, self.port = host, port
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{port}"
        self._timeout_s, self._pauses_s = timeout_s, pauses_s
        self._token: str | None = None
        # A network proxy cannot reach the user's own machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def health(self) -> dict[str, str]:
        """Each component's health in Airflow's words; raises `Unreachable` before the API server is up."""
        answer = self._send("GET", "/api/v2/monitor/health", None)
        return {
            ours: (answer.get(theirs) or {}).get("status") or "unknown" for ours, theirs in COMPONENTS.items()
        }

    def sign_in(self, password: str) -> None:
        try:
            answer = self._repeated("POST", "/auth/token", {"username": "admin", "password": password})
        except LocalStackError as failure:
            raise LocalStackError(
                f"user 'admin' cannot sign in with the password in .local/admin-password: {failure}\n"
                "If the password was changed in Airflow, write the new one into that file"
            ) from failure
        self._token = answer["access_token"]

    def dag_ids(self) -> set[str]:
        return {dag["dag_id"] for dag in self.call("GET", "/api/v2/dags?limit=1000")["dags"]}

    def import_errors(self) -> list[str]:
        errors = self.call("GET", "/api/v2/importErrors?limit=100")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace'].strip()}" for error in errors]

    def unpause(self, dag_id: str) -> None:
        self.call("PATCH", f"/api/v2/dags/{_quoted(dag_id)}?update_mask=is_paused", {"is_paused": False})

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The newest runs of a DAG, newest first."""
        runs: list[dict[str, Any]] = self.call(
            "GET", f"/api/v2/dags/{_quoted(dag_id)}/dagRuns?limit=20&order_by=-run_after"
        )["dag_runs"]
        return runs

    def trigger(self, dag_id: str) -> None:
        self.call("POST", f"/api/v2/dags/{_quoted(dag_id)}/dagRuns", {"logical_date": None})

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Send a request; retry it if the server fails or is slow and a repetition is harmless."""
        return (self._repeated if method in _REPEATABLE else self._send)(method, path, body)

    def _repeated(self, method: str, path: str, body: object) -> dict[str, Any]:
        for pause_s in self._pauses_s:
            try:
                return self._send(method, path, body)
            except (ServerFailed, TimedOut):
                time.sleep(pause_s)
        return self._send(method, path, body)

    def _send(self, method: str, path: str, body: object) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the scheme is ours
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                has_content = answer.status != HTTPStatus.NO_CONTENT  # as for what was deleted
                result: dict[str, Any] = json.load(answer) if has_content else {}
        except urllib.error.HTTPError as failure:
            words = failure.read(500).decode(errors="replace")
            kind = ServerFailed if failure.code == HTTPStatus.INTERNAL_SERVER_ERROR else LocalStackError
            raise kind(f"{method} {path}: {failure.code} {failure.reason}: {words}") from failure
        except TimeoutError as failure:
            raise TimedOut(f"{method} {self.url}{path}: no answer within {self._timeout_s:g} s") from failure
        except (OSError, ValueError) as failure:
            raise Unreachable(f"{method} {self.url}{path}: {failure}") from failure
        return result


def _quoted(dag_id: str) -> str:
    return urllib.parse.quote(dag_id, safe="")
