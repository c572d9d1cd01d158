"""Imports scikit-learn without pandas and scipy.stats, which it imports to have them at hand.

Together they are a third of what importing scikit-learn costs. A model that needs them finds them: the
names in scikit-learn's modules stand for the modules themselves.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from mlops_plugin.deferred_modules import deferred

# What scikit-learn's modules import at their top, and use in some function.
_DEFERRED = {
    "sklearn._loss.link": ("scipy.stats",),
    "sklearn.covariance._robust_covariance": ("scipy.stats",),
    "sklearn.feature_selection._univariate_selection": ("scipy.stats",),
    "sklearn.impute._iterative": ("scipy.stats",),
    "sklearn.inspection._partial_dependence": ("scipy.stats", "scipy.stats.mstats"),
    "sklearn.inspection._plot.partial_dependence": ("scipy.stats", "scipy.stats.mstats"),
    "sklearn.isotonic": ("scipy.stats",),
    "sklearn.metrics._ranking": ("scipy.stats",),
    "sklearn.model_selection._search": ("scipy.stats",),
    "sklearn.preprocessing._data": ("scipy.stats",),
    "sklearn.utils.fixes": ("scipy.stats", "pandas"),
}
_MEMBERS = frozenset(("chi2", "gmean", "mquantiles", "rankdata", "spearmanr"))
# scipy.sparse.linalg must not be imported for the first time while scipy.stats is a stand-in.
_IMPORTED_BEFORE = ("scipy.sparse.linalg", "scipy.special")


@contextmanager
def lean_sklearn() -> Iterator[None]:
    """What is imported of scikit-learn inside leaves out what it can do without."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in _DEFERRED else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        for name in _IMPORTED_BEFORE:
            importlib.import_module(name)
        with deferred(*_DEFERRED[module.__name__], members=_MEMBERS):
            self._loader.exec_module(module)
