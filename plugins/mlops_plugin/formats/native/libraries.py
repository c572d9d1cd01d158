"""Imports the library of a native format when its first model is loaded; which releases are supported."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from types import ModuleType

from mlops_plugin.errors import ArtifactError, DriverMissing


@dataclass(frozen=True)
class Library:
    """A module, the package that brings it, and the releases that are supported: from, and below."""

    module: str
    package: str
    least: tuple[int, int]
    below: int

    @property
    def requirement(self) -> str:
        """As pip reads it."""
        return f"{self.package}>={self.least[0]}.{self.least[1]},<{self.below}"


XGBOOST = Library("xgboost", "xgboost-cpu", (3, 1), 4)  # xgboost alike, which brings libraries for GPUs
CATBOOST = Library("catboost", "catboost", (1, 2), 2)
ONNXRUNTIME = Library("onnxruntime", "onnxruntime", (1, 20), 2)
LIGHTGBM = Library("lightgbm", "lightgbm", (4, 0), 5)


def import_library(library: Library, uri: str) -> ModuleType:
    """The library's module; raises `DriverMissing` with the command that installs a supported release."""
    install = f"pip install '{library.requirement}'"
    try:
        module = importlib.import_module(library.module)
    except ModuleNotFoundError as exc:
        raise DriverMissing(
            f"model file '{uri}' needs the package {library.package}, and the module '{exc.name}' is not "
            f"installed here: {install}"
        ) from exc
    except (ImportError, OSError) as exc:  # the system lacks a library that it is linked with
        remedy = "apt-get install libgomp1" if "libgomp" in str(exc) else install
        raise DriverMissing(
            f"model file '{uri}' needs the package {library.package}, which cannot be imported here: {exc}; "
            f"try: {remedy}"
        ) from exc
    version = str(module.__version__)
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if not (library.least <= numbers < (library.below, 0)):
        raise DriverMissing(
            f"model file '{uri}' needs {library.requirement}, but version {version} is installed: {install}"
        )
    return module


def load_failure(uri: str, kind: str, failure: Exception) -> ArtifactError:
    """What a library says of a file that it cannot load."""
    reason = str(failure).strip().partition("\n")[0] or "no reason given"
    return ArtifactError(
        f"model file '{uri}' cannot be loaded as {kind}: {type(failure).__name__}: {reason}; check that the "
        "file is complete and was written in this format"
    )
