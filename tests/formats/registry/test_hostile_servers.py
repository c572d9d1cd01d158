"""A registry that refuses, hangs, lies or floods is named with what it did, within limits on time and "
"size."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.errors import ArtifactError, RegistryError
from mlops_plugin.formats.registry.model_cache import FOLDER
from mlops_plugin.formats.registry.model_version import ModelVersion
from mlops_plugin.formats.registry.registry import Registry
from mlops_plugin.masking import learn
from mlops_plugin.wait_limits import RegistryLimits
from support.mlflow_server import TOKEN, MlflowStandIn, mlflow_stand_in, send, send_json
from support.servers import HOST, free_port

__all__ = ["mlflow_stand_in"]

QUICK = RegistryLimits(connect_s=2, answer_s=2, download_s=2.5)  # for a server that makes one wait
CHAMPION = ArtifactConfig(format="mlflow", uri="models:/churn@champion", connection="mlflow")
ALIAS, VERSION, PLACE, FILES = (
    "mlflow/registered-models/alias",
    "mlflow/model-versions/get",
    "mlflow/model-versions/get-download-uri",
    "mlflow-artifacts/artifacts",
)
ROOT = "mlflow-artifacts:/1/models/1/artifacts"
Answer = Callable[[BaseHTTPRequestHandler], None]


def registry(
    server: MlflowStandIn,
    home: Path,
    connection: ConnectionSpec | None = None,
    answer: Answer | None = None,
) -> Registry:
    limits = QUICK if answer in (silent, dripping) else RegistryLimits()
    return Registry(home, lambda _: connection or server.connection, limits)


def refusal(server: MlflowStandIn, home: Path, artifact: ArtifactConfig = CHAMPION, **more: Any) -> str:
    """What is said of a version that cannot be had; nothing of it is left in the cache."""
    wanted = registry(server, home, **more)
    with pytest.raises(ArtifactError) as refused:
        wanted.located(artifact, wanted.find(artifact))
    assert TOKEN not in repr(refused.value)
    assert not [path for path in home.rglob("*") if path.is_file()]
    return str(refused.value)


def silent(request: BaseHTTPRequestHandler) -> None:
    request.connection.settimeout(60)
    with contextlib.suppress(OSError):
        request.rfile.read(1)  # until the client has given it up


def dripping(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(300):  # until the client has given it up
            request.wfile.write(b" ")
            time.sleep(0.2)


def broken_off(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b"{")


def said(status: int, body: bytes, kind: str = "application/json") -> Answer:
    return lambda request: send(request, status, body, kind)


def redirect(request: BaseHTTPRequestHandler) -> None:
    request.send_response(302)
    request.send_header("Location", f"http://{HOST}:1/login")
    request.send_header("Content-Length", "0")
    request.end_headers()


MESSAGE = json.dumps({"error_code": "X", "message": f"no  such\nthing, {TOKEN}"}).encode()
FAULTS: dict[str, tuple[Answer, tuple[str, ...]]] = {
    "401": (said(401, MESSAGE), ("401", "user or token")),
    "403": (said(403, b"<html>", "text/html"), ("403", "user or token")),
    "404 of MLflow": (said(404, MESSAGE), ("no such thing", "check the name")),
    "404 of another": (said(404, b"<html>", "text/html"), ("404", "address of an MLflow server")),
    "500": (said(500, MESSAGE), ("500", "no such thing", "try again later")),
    "a token that is cut": (said(500, json.dumps({"message": f"{'x' * 190}{TOKEN}"}).encode()), ("x***",)),
    "503": (said(503, b"", "text/html"), ("503", "try again later")),
    "redirect": (redirect, ("302", f"{HOST}:1", "not followed")),
    "HTML": (said(200, b"<!doctype html><form>", "text/html"), ("a page of HTML", "login page")),
    "no JSON": (said(200, b"{'a': 1}"), ("no JSON",)),
    "depth": (said(200, b"[" * 100_000), ("no JSON",)),
    "another shape": (said(200, b'{"model_version": {"name": 7}}'), ("none of MLflow's", "model_version")),
    "empty": (said(200, b"{}"), ("none of MLflow's", "model_version")),
    "flood": (said(200, b" " * (5 << 20)), ("more than 4194304 bytes",)),
    "silent": (silent, ("within 2 s",)),
    "dripping": (dripping, ("within 2 s",)),
    "broken off": (broken_off, ("failed",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_the_connection(
    fault: str, mlflow_stand_in: MlflowStandIn, tmp_path: Path
) -> None:
    learn((TOKEN,))  # as reading the Airflow connection does
    answer, facts = FAULTS[fault]
    mlflow_stand_in.answers[ALIAS] = answer
    words = refusal(mlflow_stand_in, tmp_path, answer=answer)
    assert [fact for fact in ("connection 'mlflow'", *facts) if fact not in words] == []


def test_a_server_that_is_down_or_no_address_is_named(mlflow_stand_in: MlflowStandIn, tmp_path: Path) -> None:
    down = ConnectionSpec("mlflow", "http", HOST, free_port())
    assert f"{HOST}:{down.port}" in refusal(mlflow_stand_in, tmp_path, connection=down)
    for host in (None, "ftp://host", "http://user:word@host", "http://host?x=1"):
        with pytest.raises(RegistryError, match="no address of an MLflow server"):
            registry(mlflow_stand_in, tmp_path, ConnectionSpec("mlflow", "http", host)).find(CHAMPION)


@pytest.mark.parametrize(
    ("connection", "is_let_in"),
    [
        ({"password": TOKEN}, True),
        ({"login": "user", "password": TOKEN}, True),
        ({"password": "another"}, False),
        ({}, False),
    ],
    ids=["token", "user and password", "another token", "none"],
)
def test_a_token_or_a_user_with_a_password_is_let_in(
    connection: dict[str, Any], is_let_in: bool, mlflow_stand_in: MlflowStandIn, tmp_path: Path
) -> None:
    spec = ConnectionSpec("mlflow", "http", f"http://{HOST}:{mlflow_stand_in.port}/", **connection)
    if is_let_in:
        assert registry(mlflow_stand_in, tmp_path, spec).find(CHAMPION).version == "1"
    else:
        assert "401" in refusal(mlflow_stand_in, tmp_path, connection=spec)


@pytest.mark.parametrize(
    ("uri", "fact"),
    [("models:/churn@none", "alias none"), ("models:/churn/99", "99"), ("models:/none/1", "none")],
)
def test_a_name_that_the_registry_lacks_is_refused_in_its_own_words(
    uri: str, fact: str, mlflow_stand_in: MlflowStandIn, tmp_path: Path
) -> None:
    assert fact in refusal(mlflow_stand_in, tmp_path, CHAMPION.model_copy(update={"uri": uri}))


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"name": "other"}, "answered with other"),
        ({"status": "PENDING_REGISTRATION"}, "PENDING_REGISTRATION"),
        ({"version": ""}, "model_version.version"),
        ({"version": "1/../../7"}, "model_version.version"),
    ],
)
def test_another_version_than_the_wanted_one_is_refused(
    change: dict[str, str], fact: str, mlflow_stand_in: MlflowStandIn, tmp_path: Path
) -> None:
    found = {"name": "churn", "version": "1", "status": "READY", **change}
    mlflow_stand_in.answers[ALIAS] = lambda request: send_json(request, {"model_version": found})
    assert fact in refusal(mlflow_stand_in, tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "runs:/abc/model", "dbfs:/x", "http://example.org/x", "hdfs://x/y", "./mlruns/1", "mlruns/1",
        "file://elsewhere/x", "ftp://x/y", "memory://x", "file:///nowhere/at/all", "/nowhere/at/all",
    ],
)  # fmt: skip
def test_files_that_lie_elsewhere_are_refused(
    source: str, mlflow_stand_in: MlflowStandIn, tmp_path: Path
) -> None:
    mlflow_stand_in.sources["1"] = source
    refusal(mlflow_stand_in, tmp_path)


def listing(*files: dict[str, Any]) -> Answer:
    return lambda request: send_json(request, {"files": [{"is_dir": False, **file} for file in files]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        (listing({"path": "../up"}), "'../up'"),
        (listing({"path": "/etc/up"}), "'/etc/up'"),
        (listing({"path": ".."}), "'..'"),
        (listing({"path": "..", "is_dir": True}), "'..'"),
        (listing({"path": "a\nb"}), "plainly"),
        (
            listing({"path": "data", "is_dir": True}),
            "in more than 20 folders",
        ),  # in which lies the same, and so on
        (listing({"path": "MLmodel", "file_size": 3}), "were received"),
        (listing(), "no file MLmodel"),
        (said(200, b'{"files": [{"path": 7}]}'), "files.0.path"),
        (silent, "within 2 s"),
    ],
)
def test_a_listing_that_leads_elsewhere_or_never_ends_is_refused(
    answer: Answer, fact: str, mlflow_stand_in: MlflowStandIn, tmp_path: Path
) -> None:
    mlflow_stand_in.answers[FILES] = answer
    assert fact in refusal(mlflow_stand_in, tmp_path, answer=answer)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
    assert not (tmp_path / FOLDER).exists() or [*(tmp_path / FOLDER).iterdir()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        (broken_off, "failed"),
        (dripping, "within 2.5 s"),
        (said(404, MESSAGE), "no such thing"),
        (silent, "2 s"),
    ],
    ids=["broken off", "dripping", "gone", "silent"],
)
def test_a_file_that_does_not_arrive_whole_leaves_nothing(
    answer: Answer, fact: str, mlflow_stand_in: MlflowStandIn, tmp_path: Path
) -> None:
    mlflow_stand_in.answers[f"{FILES}/1/models/1/artifacts/MLmodel"] = answer
    assert fact in refusal(mlflow_stand_in, tmp_path, answer=answer)
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_file_that_is_larger_than_allowed_is_not_kept(
    mlflow_stand_in: MlflowStandIn, tmp_path: Path
) -> None:
    from mlops_plugin.formats.registry.rest_api import MlflowServer

    server = MlflowServer(mlflow_stand_in.connection, RegistryLimits())
    with pytest.raises(RegistryError, match="more than 10 bytes"), (tmp_path / "file").open("wb") as file:
        server.download("1/models/1/artifacts/MLmodel", file, most=10)
    server.close()
    assert (tmp_path / "file").stat().st_size <= 10


@pytest.mark.parametrize(
    "uri", ["models:/churn", "models:/churn/Production", "models:/a/b/1", "models:/churn@"]
)
def test_a_uri_that_names_no_version_is_refused_with_the_configuration(uri: str) -> None:
    with pytest.raises(ValueError, match="NAME@ALIAS"):
        ArtifactConfig(format="mlflow", uri=uri, connection="mlflow")


@pytest.mark.parametrize(
    ("more", "fact"),
    [
        ({"connection": None}, "connection"),
        ({"format": "skops"}, "format: mlflow"),
        ({"uri": "churn", "connection": "mlflow"}, "only for"),
        ({"uri": "models:/churn@champion", "signature_sha256": "0" * 64}, "not for an alias"),
        ({"sha256": ("0" * 64, "0" * 64)}, "twice"),
    ],
)
def test_a_registrys_model_needs_its_connection_and_nothing_beside_it(
    more: dict[str, Any], fact: str
) -> None:
    wanted = {"format": "mlflow", "uri": "models:/churn/7", "connection": "mlflow", **more}
    with pytest.raises(ValueError, match=fact):
        ArtifactConfig.model_validate(wanted)


def test_a_signature_lies_in_the_folder_of_its_connection_whatever_the_models_name() -> None:
    for name in ("churn", "..", "a\\b", "ü" * 128, "x" * 256):
        wanted = {"format": "mlflow", "uri": f"models:/{name}/7", "connection": "mlflow"}
        path = Path(
            ArtifactConfig.model_validate(wanted)
            .located_in(Path("/etc/x"))
            .of_version(name, "7")
            .signature_uri
        )
        assert path.parent == Path("/etc/x/signatures/mlflow")
        assert len(path.name.encode()) <= 255
        assert path.name.endswith("-7.signature.json")


def test_two_that_download_at_once_both_have_the_whole_model(
    mlflow_stand_in: MlflowStandIn, tmp_path: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    wanted = Registry(tmp_path, lambda _: mlflow_stand_in.connection)
    version: ModelVersion = wanted.find(CHAMPION)
    with ThreadPoolExecutor(4) as pool:
        found = {each.uri for each in pool.map(lambda _: wanted.located(CHAMPION, version), range(4))}
    (folder,) = (tmp_path / FOLDER).iterdir()
    assert found == {str(folder)}
    assert (folder / "MLmodel").is_file()
