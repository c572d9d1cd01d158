"""A command ends with its own status, whatever a thread that was given up is doing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
# The thread goes back and forth between Python and Arrow: Python's end would meet it there.
_COMMAND = """
import sys
import pyarrow as pa
from mlops_plugin.cli import mlops
from mlops_plugin.interruptible import interruptible

def batches():
    while True:
        yield pa.record_batch({"a": [1]})

def read():
    for _ in pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int64())]), batches()):
        pass

def give_up(options):
    try:
        interruptible(read, 0.2)
    except TimeoutError:
        print("given up")
    return 3

mlops._COMMANDS = {"db_current": give_up}
sys.argv = ["mlops", "db", "current"]
sys.exit(mlops.main())
"""


def test_command_ends_beside_a_thread_that_works_in_a_library(tmp_path: Path) -> None:
    environment = {
        "PYTHONPATH": str(CHECKOUT / "plugins"),
        "PATH": "/usr/bin:/bin",
        "AIRFLOW_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "given up\n"), done.stderr
