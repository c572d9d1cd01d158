"""skops finds numpy's and scipy's functions at once, and trusts no other names than by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
_BY_ITSELF = "import skops.io"
_OURS = """
from mlops_plugin.formats.importing.skops_import import import_skops_io
import_skops_io()
"""
# Counts who looks into it for a name.
_A_STRANGE_MODULE = """
import json, sys, types, warnings
warnings.simplefilter("ignore")


class Watched(types.ModuleType):
    looks = 0

    def __getattr__(self, name):
        if not name.startswith("__"):
            Watched.looks += 1
        raise AttributeError(name)


sys.modules["strange"] = Watched("strange")
"""
_SAY = """
from skops.io import _trusted_types
names = sorted(_trusted_types.NUMPY_UFUNC_TYPE_NAMES + _trusted_types.SCIPY_UFUNC_TYPE_NAMES)
estimators = sorted(_trusted_types.SKLEARN_ESTIMATOR_TYPE_NAMES)
print(json.dumps([names, estimators, Watched.looks, "pytest" in sys.modules]))
"""


@pytest.mark.slow
def test_the_same_names_are_trusted_and_no_other_module_is_looked_at() -> None:
    names_by_itself, estimators_by_itself, looks_by_itself, has_pytest_by_itself = _said(_BY_ITSELF)
    names, estimators, looks, has_pytest = _said(_OURS)
    assert any(name.startswith("scipy.special") for name in names)
    assert names == names_by_itself
    assert estimators == estimators_by_itself
    assert looks_by_itself > 100
    assert looks == 0
    assert (has_pytest_by_itself, has_pytest) == (True, False)  # scikit-learn wants it for its own tests


def _said(importing: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _A_STRANGE_MODULE + importing + _SAY],
        env={"PYTHONPATH": str(PLUGINS)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
