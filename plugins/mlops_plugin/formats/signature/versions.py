"""Which libraries run a model, and whether they are those of its training."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

from mlops_plugin.formats.signature.signature import Signature

# Modules whose package has another name, or one of several.
_PACKAGES = {
    "sklearn": ("scikit-learn",),
    "imblearn": ("imbalanced-learn",),
    "xgboost": ("xgboost", "xgboost-cpu"),
}
# What answers depend on, if a model has loaded it.
_TELLING = (
    *("numpy", "pandas", "polars", "scipy", "sklearn", "imblearn"),
    *("lightgbm", "xgboost", "catboost", "onnxruntime"),
)
PYTHON = "Python"
Packages = Mapping[str, str]  # package -> version, and `PYTHON` -> its version


def modules_of(model: Any) -> list[str]:
    """The modules of this process that tell how the model answers: known ones, and that of its own class."""
    own = type(model).__module__.partition(".")[0]
    known = [name for name in _TELLING if name in sys.modules]
    return [*known, *([] if own in (*known, "mlops_plugin", "builtins") else [own])]


def versions_of(modules: Iterable[str], packages: Packages | None = None) -> dict[str, str]:
    """The version of Python and of each module's package, by the package's name.

    `packages`: those of a model's own environment; None: what is installed here. A module that belongs to no
    package is left out.
    """
    found = {PYTHON: platform.python_version() if packages is None else packages[PYTHON]}
    for module in modules:
        for package in _PACKAGES.get(module, (module,)):
            installed = _installed(package) if packages is None else _find(packages, package)
            if installed is not None:
                found[package] = installed
    return found


def changed_libraries(signature: Signature, packages: Packages | None = None) -> list[str]:
    """e.g. "scikit-learn 1.5.2, here 1.9.1"; Python itself by its minor version. `packages`: see
    `versions_of`."""
    changed = []
    for module, then in signature.libraries.items():
        if module == "python":
            name = PYTHON
            now = platform.python_version() if packages is None else packages[PYTHON]
            is_same = then.split(".")[:2] == now.split(".")[:2]
        else:
            name, now = _version(module, packages)
            is_same = then == now
        if not is_same:
            changed.append(f"{name} {then}, here {now}")
    return changed


def _version(module: str, packages: Packages | None) -> tuple[str, str]:
    """The package that holds a module, and its version; "none" if it is not there."""
    named = _PACKAGES.get(module, (module,))
    for package in named:
        found = _installed(package) if packages is None else _find(packages, package)
        if found is not None:
            return package, found
    if packages is None:  # a package of another name may hold the module
        return named[0], next((version(name) for name in packages_distributions().get(module, ())), "none")
    return named[0], "none"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except (PackageNotFoundError, ValueError):  # an empty name, which only a hostile model says
        return None


def _find(packages: Packages, package: str) -> str | None:
    """By its name, however it is written."""
    names = {_plain(name): found for name, found in packages.items()}
    return names.get(_plain(package))


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
