"""The package goes into an Airflow without moving any release that Airflow alone would have.

Airflow's own constraints are not on PyPI. What uv makes of a bare `apache-airflow` there is close to them,
and what we ask for has to fit it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.built_wheel import BuiltWheel

pytestmark = pytest.mark.long  # it asks the index
AIRFLOW = "apache-airflow>=3.3,<3.4"
PYTHONS = ("3.11", "3.12", "3.13")


def resolved(folder: Path, python: str, *lines: str, options: tuple[str, ...] = ()) -> set[str]:
    """What uv would install of these requirements, each with its release."""
    (folder / "wanted.in").write_text("\n".join(lines))
    uv = str(Path(sys.executable).parent / "uv")
    quiet = ("--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:", "--python-version", python)
    command = [uv, "pip", "compile", *quiet, *options, str(folder / "wanted.in")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {line.strip() for line in done.stdout.splitlines() if line.strip()}


@pytest.mark.parametrize("python", PYTHONS)
def test_with_every_extra_airflow_has_the_releases_of_a_bare_one(
    built: BuiltWheel, tmp_path: Path, python: str
) -> None:
    bare = resolved(tmp_path, python, AIRFLOW)
    (tmp_path / "constraints.txt").write_text("\n".join(bare))
    options = ("--constraint", str(tmp_path / "constraints.txt"))
    both = resolved(tmp_path, python, AIRFLOW, f"mlops-plugin[all] @ {built.wheel.as_uri()}", options=options)
    assert len(bare) > 100
    assert bare - both == set()


@pytest.mark.parametrize("python", [PYTHONS[0], PYTHONS[-1]])
def test_the_least_releases_that_are_asked_for_fit_together(
    built: BuiltWheel, tmp_path: Path, python: str
) -> None:
    lowest = ("--resolution", "lowest-direct")
    found = resolved(tmp_path, python, f"mlops-plugin[all] @ {built.wheel.as_uri()}", options=lowest)
    assert {line.partition("==")[0] for line in found} >= {"pandas", "scikit-learn", "onnxruntime", "duckdb"}
