"""A private S3-compatible server (moto) for tests of staging on an object store, on a free port.

It checks who asks: a user of its own may use one bucket, anybody else is turned away.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest

from support.kinds import refuse_in_fast
from support.servers import HOST, free_port

BUCKET = "staging"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_EVERYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
}


@dataclass(frozen=True)
class S3Server:
    """A running server; `environment` is what a process needs to use it."""

    url: str
    environment: dict[str, str]

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process, and those that it starts, know this store and no other."""
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    def objects(self, prefix: str) -> list[str]:
        """The objects in the bucket, as another client sees them."""
        listed = self._client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [found["Key"] for found in listed.get("Contents", ())]

    def _client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=self.environment["AWS_DEFAULT_REGION"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )


@contextlib.contextmanager
def start_s3() -> Iterator[S3Server]:
    """Run the server with an empty bucket and one user."""
    refuse_in_fast("an S3 server")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--host", HOST, "--port", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_until_ready(port, process)
        yield _with_user(port)
    finally:
        if "s3fs" in sys.modules:  # it keeps the way to a server for whoever asks next
            sys.modules["s3fs"].S3FileSystem.clear_instance_cache()
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _with_user(port: int) -> S3Server:
    url = f"http://{HOST}:{port}"
    environment = {
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": "us-east-1",
        # Nothing of whoever runs the tests.
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    anybody = S3Server(url, environment | {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"})
    anybody._client("s3").create_bucket(Bucket=BUCKET)
    iam = anybody._client("iam")
    iam.create_user(UserName="worker")
    iam.put_user_policy(UserName="worker", PolicyName="s3", PolicyDocument=json.dumps(_EVERYTHING))
    key = iam.create_access_key(UserName="worker")["AccessKey"]
    # From here on requests are checked.
    _asked(port, "POST", "/moto-api/reset-auth", "0")
    return S3Server(
        url,
        environment
        | {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]},
    )


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            _asked(port, "GET", "/moto-api/")
        except OSError:
            assert process.poll() is None, "the S3 server ended"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.1)
            continue
        return


def _asked(port: int, method: str, path: str, body: str | None = None) -> None:
    """A request to the server's own interface; anything but success is an `OSError`."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_START_TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise OSError(f"{path}: {answer.status}")
