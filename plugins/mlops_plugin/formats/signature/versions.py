"""Which libraries run here, compared with those of training."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from mlops_plugin.formats.signature.signature import Signature

# Modules whose package has another name.
_PACKAGES = {"sklearn": "scikit-learn", "imblearn": "imbalanced-learn"}


def changed_libraries(signature: Signature) -> list[str]:
    """e.g. "scikit-learn 1.5.2, here 1.9.1"; Python itself by its minor version."""
    changed = []
    for module, then in signature.libraries.items():
        if module == "python":
            name, now = "Python", platform.python_version()
            is_same = then.split(".")[:2] == now.split(".")[:2]
        else:
            name = _PACKAGES.get(module, module)
            now = _version(name, module)
            is_same = then == now
        if not is_same:
            changed.append(f"{name} {then}, here {now}")
    return changed


def _version(package: str, module: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        # A package of another name may hold the module: xgboost-cpu holds xgboost.
        packages = packages_distributions().get(module, ())
        return next((version(name) for name in packages), "none")
