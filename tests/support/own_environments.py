"""A model with a library that is nowhere but in its environment, which is made of small wheels."""

from __future__ import annotations

import hashlib
import pickle
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mlops_plugin.cli import main
from mlops_plugin.environments.location import Environment
from support.small_wheels import write_stand_ins, write_wheel
from support.workshop import FEATURES, Workshop

PYTHON = "{}.{}".format(*sys.version_info[:2])
# The release of the library is in its answers.
_LIBRARY = """
import sys

class Scorer:
    n_features_in_ = 3
    _estimator_type = "regressor"

    def predict(self, rows):
        print("runs in", sys.prefix, flush=True)
        return [{thousands} * 1000 + float(row[0]) for row in rows]
"""


def write_wheels(folder: Path) -> Path:
    """Two releases of the library, and what every environment needs."""
    write_stand_ins(folder)
    for release in (1, 2):
        text = _LIBRARY.format(thousands=release)
        write_wheel(folder, "old_scores", f"{release}.0", {"old_scores.py": text})
    return folder


def add_model(workshop: Workshop, content: bytes, *requirements: str, python: str = PYTHON) -> None:
    """The pickled model as `churn`, with libraries of its own."""
    (workshop.folder / "churn.pickle").write_bytes(content)
    require(workshop, *requirements)
    artifact = {
        "format": "pickle",
        "uri": "churn.pickle",
        "sha256": hashlib.sha256(content).hexdigest(),
        "environment": {"requirements": "churn.txt", "python": python},
    }
    workshop.add_model("churn", model=artifact, features=list(FEATURES))


def require(workshop: Workshop, *lines: str) -> None:
    """Write the requirements of `churn`."""
    (workshop.folder / "churn.txt").write_text("\n".join([*lines, ""]))


def scorer() -> bytes:
    """A `Scorer` as the script that trained it saved it."""
    module = ModuleType("old_scores")
    exec(_LIBRARY.format(thousands=0), module.__dict__)  # noqa: S102 - our own text
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "old_scores", module)
        module.Scorer.__module__ = "old_scores"
        return pickle.dumps(module.Scorer())


def sync(workshop: Workshop, wheels: Path | None, *arguments: str) -> int:
    """The exit status of `mlops environments sync`."""
    offline = [] if wheels is None else ["--wheels", str(wheels)]
    return main(["--config", str(workshop.config_file), "environments", "sync", *arguments, *offline])


def environment_of(workshop: Workshop) -> Environment:
    found = Environment.of(workshop.model())
    assert found is not None
    return found
