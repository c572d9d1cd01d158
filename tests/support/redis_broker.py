"""A Redis of a test's own, and what Airflow must be told to run tasks by Celery over it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from support.servers import free_port
from support.workshop import Workshop


@contextmanager
def celery_settings(workshop: Workshop) -> Iterator[dict[str, str]]:
    """The settings, while the broker runs; results go into Airflow's own database, which must be a server."""
    port = free_port()
    server = shutil.which("redis-server")
    assert server, "redis-server is not installed; .ci/system-packages installs it"
    assert workshop.metadata is not None
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{port}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{workshop.metadata.sqlalchemy_url()}",
        }
    finally:
        process.terminate()
        process.wait()
