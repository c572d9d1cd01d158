"""Native threads that wait for each other leave the cores to those that work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import skops.io
from sklearn.linear_model import LinearRegression

from support.workshop import Workshop

_LOAD = """
import os, sys
from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.formats.runtime import load_runtime
assert "sklearn" not in sys.modules
load_runtime(ArtifactConfig(format="skops", uri=sys.argv[1]), features=("a",))
print(os.environ["OMP_WAIT_POLICY"], os.environ["OPENBLAS_THREAD_TIMEOUT"])
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["passive", "4"]),
        ({"OMP_WAIT_POLICY": "active", "OPENBLAS_THREAD_TIMEOUT": "26"}, ["active", "26"]),
    ],
    ids=["nothing", "otherwise"],
)
def test_waiting_threads_sleep_unless_the_environment_says_otherwise(
    given: dict[str, str], expected: list[str], tmp_path: Path
) -> None:
    artifact = tmp_path / "model.skops"
    skops.io.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), artifact)
    unset = ("OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), **given}
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(artifact)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.split() == expected, done.stderr


# OpenBLAS comes with numpy, which a dispatch loads long before its model.
_DISPATCH = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print("numpy finds", os.environ.get("OPENBLAS_THREAD_TIMEOUT"))

sys.meta_path.insert(0, Finder())
from mlops_plugin.cli.mlops import main
sys.exit(main(["dispatch", sys.argv[1]]))
"""


def test_a_dispatch_decides_it_before_numpy_is_loaded(workshop: Workshop) -> None:
    workshop.add_model("churn")
    done = subprocess.run(
        [sys.executable, "-c", _DISPATCH, "churn"],
        env={**workshop.environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("numpy")] == ["numpy finds 4"]
