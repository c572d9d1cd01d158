"""What Prometheus reads: every request counted once, under the status that its client saw."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx

from inference_server.conftest import infer, tensor

ROW = [tensor(name, "FP64", [1.0, 2.0]) for name in "abc"]


def counts(client: httpx.Client) -> dict[str, float]:
    answer = client.get("/metrics", headers={"Authorization": ""})
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_requests_rows_and_transactions_are_counted(client: httpx.Client) -> None:
    before = counts(client)
    for _ in range(3):
        infer(client, "churn", *ROW)
    infer(client, "churn", ROW[0])
    infer(client, "unknown", *ROW)
    client.post("/v2/models/churn/infer", headers={"Authorization": ""})
    client.get("/v2/models/churn/infer")
    found = {name: value - before[name] for name, value in counts(client).items()}
    for status, expected in ((200, 3), (400, 1), (404, 1), (401, 1), (405, 1), (500, 0)):
        assert found[f'mlops_serve_requests_total{{status="{status}"}}'] == expected
    assert found["mlops_serve_rows_predicted_total"] == 6
    assert found["mlops_serve_event_transactions_total"] >= 3
    assert found["mlops_serve_request_seconds_count"] == 7
    assert found['mlops_serve_request_seconds_bucket{le="+Inf"}'] == 7
    assert found["mlops_serve_request_seconds_sum"] > 0


def test_another_process_knows_how_this_one_stands(client: httpx.Client, counts_folder: Path) -> None:
    """Prometheus keeps one connection, so one process answers it for all."""
    ask = "import sys, pathlib; from mlops_plugin.inference_server.metrics import Metrics; "
    command = [
        sys.executable,
        "-c",
        f"{ask}print(Metrics(pathlib.Path(sys.argv[1])).text())",
        str(counts_folder),
    ]

    def transactions() -> str:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return next(line for line in found.splitlines() if line.startswith("mlops_serve_event_transactions"))

    before = counts(client)["mlops_serve_event_transactions_total"]
    infer(client, "churn", *ROW)
    for _ in range(60):
        if (found := transactions()) == f"mlops_serve_event_transactions_total {before + 1:.0f}":
            return
        time.sleep(0.5)
    raise AssertionError(found)


def test_metrics_name_no_model(client: httpx.Client) -> None:
    infer(client, "churn", *ROW)
    assert "churn" not in client.get("/metrics").text
