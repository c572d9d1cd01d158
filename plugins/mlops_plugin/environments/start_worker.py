"""Runs `workers.worker` in the Python of a model's environment, in which our package is not installed.

Its folder alone is imported, by its path: a folder on `sys.path` would bring everything beside it, which is
Airflow and its libraries. Started with `-I` and a socket and a limit, or with `describe`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import platform
import sys
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).resolve().parents[1]
# What the worker imports for every model; the environment must have what these import.
_NEEDED = ("mlops_plugin.formats.scikit", "mlops_plugin.workers.row_memory", "pyarrow.ipc", "pyarrow.compute")


def main() -> None:
    """Answer requests about a model, or describe this environment."""
    worker = _import_worker()
    if sys.argv[1] == "describe":
        for module in _NEEDED:
            importlib.import_module(module)
        # Of two of one name, the first is imported.
        installed = {found.metadata["Name"]: found.version for found in reversed([*distributions()])}
        print(json.dumps({"python": platform.python_version(), "packages": installed}))
    else:
        worker.run(int(sys.argv[1]), int(sys.argv[2]))


def _import_worker() -> ModuleType:
    name, start = _PACKAGE.name, _PACKAGE / "__init__.py"
    spec = importlib.util.spec_from_file_location(name, start, submodule_search_locations=[str(_PACKAGE)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{start} cannot be imported")
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)
    return importlib.import_module(f"{name}.workers.worker")


if __name__ == "__main__":
    main()
