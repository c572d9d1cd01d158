"""`mlops serve`: starts the processes of the server for programs."""

from __future__ import annotations

import gc
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_plugin.cli.masked_output import masked_output

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_COUNTS = "_MLOPS_SERVE_COUNTS"  # the folder in which the processes count what they answer
_STOP_WITHIN_S = 30  # requests that are being answered have so long to end
_SWITCH_S = 0.0005  # a thread whose database has answered waits so long for the one that runs


def serve_in_terminal(host: str, port: int, workers: int) -> None:
    """Serve until SIGTERM or SIGINT; `workers` processes share the port."""
    import uvicorn

    from mlops_plugin.inference_server.bounded_heads import BoundedHeads

    with tempfile.TemporaryDirectory(prefix="mlops-serve-") as counts:
        os.environ[_COUNTS] = counts
        uvicorn.run(
            f"{__name__}:make_app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            http=BoundedHeads,
            ws="none",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody asks for a client's address
            timeout_graceful_shutdown=_STOP_WITHIN_S,
        )


def make_app() -> ASGIApp:
    """The app of one process, over the configuration that this Airflow uses."""
    from mlops_plugin.config.loader import find_config_file
    from mlops_plugin.inference_server.airflow_gate import AirflowGate
    from mlops_plugin.inference_server.app import create_serving_app
    from mlops_plugin.inference_server.metrics import Metrics
    from mlops_plugin.web.shared_site import Site

    masked_output().__enter__()  # until this process ends
    sys.setswitchinterval(_SWITCH_S)
    logging.getLogger("mlops_plugin").setLevel(logging.WARNING)  # four lines for each request otherwise
    app = create_serving_app(Site(find_config_file()), AirflowGate(), Metrics(Path(os.environ[_COUNTS])))
    gc.collect()
    gc.freeze()  # what Airflow has imported stays: looking through it each time would stop all requests
    return app
