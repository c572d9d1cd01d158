"""skops finds numpy's and scipy's functions at once, and trusts no other names than by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
_BY_ITSELF = "import skops.io"
_OURS = """
from mlops_plugin.formats.importing.skops_import import import_skops_io
import_skops_io()
"""
_NAMES = """
import warnings
warnings.simplefilter("ignore")
{imported}
from skops.io import _trusted_types
print(sorted(_trusted_types.NUMPY_UFUNC_TYPE_NAMES + _trusted_types.SCIPY_UFUNC_TYPE_NAMES))
"""
# Counts who looks into it for a name.
_A_STRANGE_MODULE = """
import sys, types


class Watched(types.ModuleType):
    looks = 0

    def __getattr__(self, name):
        if not name.startswith("__"):
            Watched.looks += 1
        raise AttributeError(name)


sys.modules["strange"] = Watched("strange")
"""


@pytest.mark.slow
def test_the_same_names_are_trusted() -> None:
    ours, by_itself = (_output(_NAMES.format(imported=imported)) for imported in (_OURS, _BY_ITSELF))
    assert "scipy.special" in ours
    assert ours == by_itself


@pytest.mark.slow
def test_no_other_module_is_looked_at() -> None:
    looks = "\nprint(Watched.looks)"
    assert int(_output(_A_STRANGE_MODULE + _BY_ITSELF + looks)) > 100
    assert int(_output(_A_STRANGE_MODULE + _OURS + looks)) == 0


def _output(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={"PYTHONPATH": str(PLUGINS)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
