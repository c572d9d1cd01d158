"""A small MLflow server for tests, which answers as the real one did to `mlflow_folders/record_answers.py`.

The versions and aliases are those that a test puts into it.

`tests/formats/registry/test_real_mlflow.py` (long) goes the same way with the real server.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from mlops_plugin.connections import ConnectionSpec
from support.servers import HOST

FOLDERS = Path(__file__).parent / "mlflow_folders"
RECORDED: dict[str, Any] = json.loads((FOLDERS / "recorded.json").read_text())
API = "/api/2.0/"
TOKEN = "only-for-tests-4711"
Answer = Callable[[BaseHTTPRequestHandler], None]


class MlflowStandIn:
    """Versions are folders; `answers` take the place of what is recorded, by the path below the API."""

    def __init__(self) -> None:
        self.versions: dict[str, Path] = {"1": FOLDERS / "skops" / "model"}
        self.aliases: dict[str, str] = {"champion": "1"}
        self.sources: dict[str, str] = {}  # of versions that lie elsewhere
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stand_in._answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def connection(self) -> ConnectionSpec:
        return ConnectionSpec("mlflow", "http", HOST, self.port, password=TOKEN)

    @property
    def airflow_uri(self) -> str:
        """As AIRFLOW_CONN_MLFLOW has it."""
        return f"http://:{TOKEN}@{HOST}:{self.port}"

    def count(self, path: str) -> int:
        """How often that part of the API was asked."""
        return sum(asked.startswith(path) for asked in self.asked)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        path = url.path.removeprefix(API)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.asked.append(path)
        given = request.headers.get("Authorization", "")
        basic = f"Basic {base64.b64encode(f'user:{TOKEN}'.encode()).decode()}"
        if given not in (f"Bearer {TOKEN}", basic):
            send(request, 401, b"You are not authenticated.", "text/html")
        elif path in self.answers:
            self.answers[path](request)
        elif path == "mlflow/registered-models/alias":
            self._version(request, asked, self.aliases.get(asked["alias"]), "alias")
        elif path == "mlflow/model-versions/get":
            self._version(request, asked, asked["version"], "version")
        elif path == "mlflow/model-versions/get-download-uri":
            source = f"mlflow-artifacts:/1/models/{asked['version']}/artifacts"
            send_json(request, {"artifact_uri": self.sources.get(asked["version"], source)})
        elif path == "mlflow-artifacts/artifacts":
            self._files(request, self._place(asked["path"]))
        elif path.startswith("mlflow-artifacts/artifacts/"):
            place = self._place(unquote(path).removeprefix("mlflow-artifacts/artifacts/"))
            send(request, 200, place.read_bytes(), "application/octet-stream")
        else:
            send(request, 404, b"<html>Not Found</html>", "text/html")

    def _version(
        self, request: BaseHTTPRequestHandler, asked: dict[str, str], version: str | None, kind: str
    ) -> None:
        if asked["name"] != "churn" or version not in self.versions:
            missing = RECORDED["no name" if asked["name"] != "churn" else f"no {kind}"]
            send(request, missing["status"], json.dumps(missing["answer"]).encode())
            return
        recorded = RECORDED[kind]["answer"]["model_version"]
        aliases = [alias for alias, of in self.aliases.items() if of == version]
        found = {
            **recorded,
            "name": "churn",
            "version": version,
            "run_id": f"run{version}",
            "aliases": aliases,
        }
        send_json(request, {"model_version": found})

    def _files(self, request: BaseHTTPRequestHandler, folder: Path) -> None:
        """As the real one lists them: names in the folder, sizes of files."""
        files = []
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            like = RECORDED["listing"]["answer"]["files"]
            keys = next(file.keys() for file in like if file["is_dir"] == path.is_dir())
            about = {"path": path.name, "is_dir": path.is_dir(), "file_size": path.stat().st_size}
            files.append({key: about[key] for key in keys})
        send_json(request, {"files": files})

    def _place(self, path: str) -> Path:
        _, _, version, _, *rest = path.split("/")
        return self.versions[version].joinpath(*rest)


def send_json(request: BaseHTTPRequestHandler, answer: object) -> None:
    """A successful answer of the API."""
    send(request, 200, json.dumps(answer).encode())


def send(request: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "application/json") -> None:
    """Any answer."""
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@pytest.fixture
def mlflow_stand_in() -> Iterator[MlflowStandIn]:
    """One version of the model `churn`, the alias `champion` of it."""
    with MlflowStandIn() as server:
        yield server
