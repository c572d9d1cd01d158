"""`mlops serve` beside a real Airflow with Flask-AppBuilder: its tokens, its roles, and what ends them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from inference_server.conftest import infer, tensor
from support.airflow_process import RunningAirflow, airflow_environment, running_airflow
from support.metadata_database import FAB
from support.servers import Server, free_port
from support.workshop import Workshop

pytestmark = pytest.mark.slow

ROLES = ("Admin", "Viewer", "Only-churn")
INPUTS = [tensor(name, "FP64", [1.0]) for name in "abc"]
USERS_S = 2  # [fab] cache_ttl: how long Flask-AppBuilder keeps a user
STARTS_WITHIN_S = 300.0


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Iterator[RunningAirflow]:
    workshop = Workshop(tmp_path_factory.mktemp("beside"))
    workshop.metadata = postgres.new_database()
    workshop.add_model("hidden")
    with workshop.ready(), running_airflow(workshop, components=["api-server"], roles=ROLES) as airflow:
        yield airflow


@contextlib.contextmanager
def _mlops_serve(workshop: Workshop, workers: int, **settings: str) -> Iterator[httpx.Client]:
    port = free_port()
    environment = {
        **os.environ,
        **airflow_environment(workshop, port),
        "AIRFLOW__CORE__AUTH_MANAGER": FAB,
        "AIRFLOW__FAB__CACHE_TTL": str(USERS_S),
        **settings,
    }
    log = workshop.folder / "serve.log"
    command = [sys.executable, "-m", "mlops_plugin.cli", "serve", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--workers", str(workers)], env=environment, stdout=output, stderr=output
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
            _wait(lambda: _is_ready(client, process, log), STARTS_WITHIN_S)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    assert "Exception in ASGI application" not in log.read_text()


def _is_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-4000:]
    try:
        return client.get("/v2/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def _wait(look: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server(airflow: RunningAirflow) -> Iterator[httpx.Client]:
    with _mlops_serve(airflow.workshop, workers=1) as client:
        yield client


def _token(airflow: RunningAirflow, user: str) -> str:
    return str(airflow.api.call("POST", "/auth/token", {"username": user, "password": user})["access_token"])


def _ask(server: httpx.Client, token: str, model: str = "churn") -> httpx.Response:
    server.headers["Authorization"] = f"Bearer {token}"
    return infer(server, model, *INPUTS)


def test_a_role_may_ask_what_it_may_trigger_and_nothing_else(
    server: httpx.Client, airflow: RunningAirflow
) -> None:
    for user in ("admin", "only-churn"):
        answer = _ask(server, _token(airflow, user))
        assert answer.status_code == 200, answer.text
        record = airflow.workshop.record(answer.json()["parameters"]["dispatch_id"])
        assert record.requested_by == user
    assert _ask(server, _token(airflow, "admin"), "hidden").status_code == 200
    limited, viewer = _token(airflow, "only-churn"), _token(airflow, "viewer")
    hidden, unknown = _ask(server, limited, "hidden"), _ask(server, limited, "absent")
    assert (hidden.status_code, unknown.status_code) == (404, 404)
    assert hidden.text.replace("hidden", "absent") == unknown.text
    assert _ask(server, viewer).status_code == 403


def test_a_token_that_airflow_did_not_sign_is_refused(server: httpx.Client, airflow: RunningAirflow) -> None:
    head, claims, signature = _token(airflow, "admin").split(".")
    others = _token(airflow, "viewer").split(".")
    for forged in (
        f"{head}.{claims}.{others[2]}",
        f"{head}.{others[1]}.{signature}",
        f"{head}.{claims}.",
        "x",
    ):
        assert _ask(server, forged).status_code == 401


def test_a_revoked_token_ends_within_a_second(server: httpx.Client, airflow: RunningAirflow) -> None:
    token = _token(airflow, "admin")
    assert _ask(server, token).status_code == 200
    with httpx.Client(base_url=airflow.api.url, trust_env=False) as browser:
        browser.get("/api/v2/auth/logout", headers={"Authorization": f"Bearer {token}"})
    time.sleep(1)  # what docs/serving.md promises
    assert _ask(server, token).status_code == 401
    assert _ask(server, _token(airflow, "admin")).status_code == 200


def test_a_role_that_changed_counts_once_airflow_forgets_the_user(
    server: httpx.Client, airflow: RunningAirflow
) -> None:
    token, metadata = _token(airflow, "only-churn"), airflow.workshop.metadata
    assert metadata is not None
    assert _ask(server, token).status_code == 200
    role = "SELECT id FROM ab_role WHERE name = 'Only-churn'"
    granted = f"SELECT * FROM ab_permission_view_role WHERE role_id = ({role})"
    metadata.execute(
        f"CREATE TABLE kept AS {granted}", f"DELETE FROM ab_permission_view_role WHERE role_id = ({role})"
    )
    try:
        time.sleep(USERS_S + 1)
        assert _ask(server, token).status_code == 403
    finally:
        metadata.execute("INSERT INTO ab_permission_view_role SELECT * FROM kept", "DROP TABLE kept")


def test_nothing_is_answered_while_airflow_cannot_say_who_asks(
    server: httpx.Client, airflow: RunningAirflow
) -> None:
    token, metadata = _token(airflow, "admin"), airflow.workshop.metadata
    assert metadata is not None
    assert _ask(server, token).status_code == 200
    before = len(airflow.workshop.records())
    metadata.execute("ALTER TABLE revoked_token RENAME TO gone")
    try:
        time.sleep(1)
        assert _ask(server, token).status_code == 503
    finally:
        metadata.execute("ALTER TABLE gone RENAME TO revoked_token")
    with contextlib.closing(metadata.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE revoked_token IN ACCESS EXCLUSIVE MODE")
        time.sleep(1)
        assert _ask(server, token).status_code == 503  # and it does not wait for ever
        assert server.get("/v2/health/live").status_code == 200
        cursor.execute("ROLLBACK")
    assert len(airflow.workshop.records()) == before
    _wait(lambda: _ask(server, token).status_code == 200, STARTS_WITHIN_S)


def test_several_processes_share_the_port(airflow: RunningAirflow) -> None:
    with _mlops_serve(airflow.workshop, workers=2) as server:
        token = _token(airflow, "admin")
        assert [_ask(server, token).status_code for _ in range(4)] == [200] * 4
        # Whichever process answers has counted for both.
        counted = server.get("/metrics").text
        assert 'mlops_serve_requests_total{status="200"} 4\n' in counted


def _signed(key: rsa.RSAPrivateKey, kid: str, user: int) -> str:
    now = int(time.time())
    claims = {"sub": str(user), "iat": now, "nbf": now, "exp": now + 60, "aud": "apache-airflow", "jti": "1"}
    return jwt.encode(claims, key, "RS256", headers={"kid": kid})


def test_tokens_of_a_key_set_count_once_the_set_is_there(airflow: RunningAirflow) -> None:
    metadata = airflow.workshop.metadata
    assert metadata is not None
    ((admin,),) = metadata.rows("SELECT id FROM ab_user WHERE username = 'admin'")
    key, other = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    keys = airflow.workshop.folder / "keys.json"
    with _mlops_serve(airflow.workshop, 1, AIRFLOW__API_AUTH__TRUSTED_JWKS_URL=str(keys)) as server:
        assert _ask(server, _signed(key, "ours", admin)).status_code == 503  # not 401: it may be valid
        keys.write_text(json.dumps({"keys": [{**public, "kid": "ours", "alg": "RS256", "use": "sig"}]}))
        assert _ask(server, _signed(key, "ours", admin)).status_code == 200
        assert _ask(server, _signed(other, "ours", admin)).status_code == 401
        assert _ask(server, _signed(key, "theirs", admin)).status_code == 401
        assert _ask(server, _token(airflow, "admin")).status_code == 401  # signed with the secret
