"""Imports scikit-learn without pandas and scipy.stats, which it imports to have them at hand.

Together they are a third of what importing scikit-learn costs. A model that needs them finds them: the
names in scikit-learn's modules stand for the modules themselves. Where pytest is installed, scikit-learn's
search for its own estimators would import it, too, for marks of scikit-learn's own tests.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from mlops_plugin.deferred_modules import deferred, hidden
from mlops_plugin.formats.importing.intercepting import intercepted

_READ_FROM = (1, 7)  # in older releases, which a model's environment may have, nobody has looked
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
_OF_TESTS = "sklearn.utils._testing"
_MEMBERS = frozenset(("chi2", "gmean", "mquantiles", "rankdata", "spearmanr"))
# scipy.sparse.linalg must not be imported for the first time while scipy.stats is a stand-in.
_IMPORTED_BEFORE = ("scipy.sparse.linalg", "scipy.special")


def lean_sklearn() -> AbstractContextManager[None]:
    """What is imported of scikit-learn inside leaves out what it can do without."""
    if not is_sklearn_from(_READ_FROM):
        return nullcontext()
    return intercepted({*_DEFERRED, _OF_TESTS}, _execute)


def import_what_needs_files() -> None:
    """Import what an older scikit-learn imports and what writes a temporary file while it is imported.

    scipy.stats of SciPy 1.13 does. A process calls this before it gives up writing files.
    """
    if not is_sklearn_from(_READ_FROM):
        importlib.import_module("scipy.stats")


@cache
def is_sklearn_from(release: tuple[int, int]) -> bool:
    """Whether the installed scikit-learn is of this release or a later one; importing nothing of it."""
    try:
        found = version("scikit-learn")
    except PackageNotFoundError:
        return True
    numbers = [int(digits) for digits in re.findall(r"\d+", found)[:2]]
    return tuple(numbers) >= release


def _execute(module: ModuleType, execute: Callable[[ModuleType], None]) -> None:
    if module.__name__ == _OF_TESTS:
        with hidden("pytest"):
            execute(module)
        return
    for name in _IMPORTED_BEFORE:
        importlib.import_module(name)
    with deferred(*_DEFERRED[module.__name__], members=_MEMBERS):
        execute(module)
