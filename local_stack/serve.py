"""`mlops serve` beside Airflow: where it listens, and whether it is ready."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping

SERVE = "serve"  # the component
_AFTER_AIRFLOW = 5  # ports: 8085 beside 8080
_TIMEOUT_S = 5.0


def serve_port(port: int) -> int:
    """The port that belongs to Airflow's."""
    return port + _AFTER_AIRFLOW


def serve_options(environment: Mapping[str, str]) -> list[str]:
    """The arguments of `mlops serve` for an Airflow with this environment."""
    host, port = environment["AIRFLOW__API__HOST"], int(environment["AIRFLOW__API__PORT"])
    return ["--host", host, "--port", str(serve_port(port))]


def serve_health(host: str, port: int) -> str:
    """`healthy`, or what is wrong in a few words."""
    name = f"[{host}]" if ":" in host else host
    # A network proxy cannot reach the user's own machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{name}:{port}/v2/health/ready", timeout=_TIMEOUT_S):
            return "healthy"
    except urllib.error.HTTPError as refused:
        return _reason(refused.read(500))
    except OSError:
        return "does not answer yet"


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return "is not ready"
