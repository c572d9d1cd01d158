"""Imports skops without its search through all modules; `scikit_files` and `preload` ask for it.

While it is imported, skops looks for the module of each of some 300 ufuncs of numpy and scipy, in one loaded
module after the other: 0.8 s of the processor in a task of Airflow, which has three thousand loaded. Here it
looks in those of numpy and scipy first: they are there.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mlops_plugin.formats.importing.intercepting import intercepted
from mlops_plugin.formats.importing.sklearn_import import lean_sklearn

_SEARCHING = "skops.io._utils"
_HOMES = ("numpy", "scipy")

Search = Callable[[Any, str], str]


def import_skops_io() -> ModuleType:
    """The module `skops.io`."""
    with intercepted([_SEARCHING], _execute), lean_sklearn(), warnings.catch_warnings():
        # What is left of the search reaches Airflow's old modules, which warn at each look.
        warnings.simplefilter("ignore")
        return importlib.import_module("skops.io")


def near_first(search: Search) -> Search:
    """A search for an object's module that begins with numpy's and scipy's."""

    def module_of(thing: Any, name: str) -> str:
        if getattr(thing, "__module__", None) is None:
            for module_name, module in sys.modules.copy().items():
                is_home = module_name.partition(".")[0] in _HOMES
                if is_home and getattr(module, name, None) is thing:
                    return module_name
        return search(thing, name)

    return module_of


def _execute(module: ModuleType, execute: Callable[[ModuleType], None]) -> None:
    execute(module)
    search = getattr(module, "whichmodule", None)
    if search is not None:  # another release of skops may do without
        module.whichmodule = near_first(search)  # type: ignore[attr-defined]
