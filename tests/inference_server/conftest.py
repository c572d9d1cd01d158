"""The server for programs over a workshop: a real HTTP server in a thread, with a gate that tests open."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from mlops_plugin.errors import MlopsError
from mlops_plugin.inference_server.app import create_serving_app
from mlops_plugin.inference_server.bounded_heads import BoundedHeads
from mlops_plugin.inference_server.gate import Caller, NotSignedIn
from mlops_plugin.inference_server.metrics import Metrics
from mlops_plugin.web.shared_site import Site
from support.workshop import Workshop


class Callers:
    """A gate that knows its callers by token; `failure` is raised instead if there is one."""

    def __init__(self) -> None:
        self.known = {"ada": Caller("ada", may_run_models=True, may_read=True, may_trigger=True)}
        self.failure: MlopsError | None = None

    async def admit(self, token: str | None, model: str) -> Caller:  # noqa: ARG002 - of the protocol
        if self.failure is not None:
            raise self.failure
        if token not in self.known:
            raise NotSignedIn("nobody has this token")
        return self.known[token]


@contextlib.contextmanager
def serving(config_file: Path, gate: Callers, counts: Path | None = None) -> Iterator[httpx.Client]:
    """A client of a server over this configuration, signed in as ada; it counts in a folder."""
    site = Site(config_file)
    with tempfile.TemporaryDirectory() as empty, socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_serving_app(site, gate, Metrics(counts or Path(empty)))
        config = uvicorn.Config(app, log_level="warning", http=BoundedHeads, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(
                base_url=url, headers={"Authorization": "Bearer ada"}, timeout=120, trust_env=False
            ) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()
            site.model_pool().close()
            site.event_store().close()


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A deployment for all tests of a file, so that its model is loaded once."""
    workshop = Workshop(tmp_path_factory.mktemp("served"))
    with workshop.ready():
        yield workshop


@pytest.fixture(scope="module")
def site(workshop: Workshop) -> Iterator[Site]:
    site = Site(workshop.config_file)
    with contextlib.closing(site.model_pool()), site.event_store():
        yield site


@pytest.fixture(scope="module")
def gate() -> Callers:
    return Callers()


@pytest.fixture(scope="module")
def counts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("counts")


@pytest.fixture(scope="module")
def client(workshop: Workshop, gate: Callers, counts_folder: Path) -> Iterator[httpx.Client]:
    with serving(workshop.config_file, gate, counts_folder) as client:
        yield client


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def infer(client: httpx.Client, model: str, *inputs: dict[str, Any], **more: Any) -> httpx.Response:
    return client.post(f"/v2/models/{model}/infer", json={"inputs": [*inputs], **more})


def outputs(answer: httpx.Response) -> dict[str, list[Any]]:
    """The values of each output, by name."""
    assert answer.status_code == 200, answer.text
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}
