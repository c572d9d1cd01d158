"""Whether this package is installed more than once: in Airflow's plugins folder and as a wheel."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path

import mlops_plugin
from mlops_plugin.errors import InstalledTwice

_PACKAGE, _GROUP = "mlops-plugin", "airflow.plugins"
_NAME = mlops_plugin.__name__
_RUNNING = Path(mlops_plugin.__path__[0])


def require_one_copy() -> None:
    """Raise `InstalledTwice` if Python or Airflow could also take the package from another folder."""
    others = [copy for copy in _copies([*sys.path, *_plugins_folder()]) if not copy.samefile(_RUNNING)]
    if others:
        unused = ", ".join(map(str, others))
        raise InstalledTwice(
            f"{_NAME} is installed twice: {_RUNNING} runs, not {unused}. Keep one: remove {_NAME} and "
            f"{_NAME}_entry.py from the plugins folder, or run: pip uninstall {_PACKAGE}"
        )


def count_entry_points() -> int:
    """How many installed packages lead to this plugin: an editable one is seen in its own folder as well."""
    found = importlib.metadata.distributions(name=_PACKAGE)
    return max(1, sum(bool(package.entry_points.select(group=_GROUP)) for package in found))


def _plugins_folder() -> list[str]:
    from airflow.sdk.configuration import conf

    found = conf.get("core", "plugins_folder", fallback=None)
    return [found] if found else []


def _copies(folders: Iterable[str]) -> Iterable[Path]:
    found = (Path(folder, _NAME) for folder in dict.fromkeys(folders))
    return [copy for copy in found if (copy / "__init__.py").is_file()]
