"""Modules that a library imports and hardly ever uses, imported when they are used; loaders of it ask for it.

pandas and scipy.stats are half of what importing scikit-learn costs, and a linear model needs neither.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    """Stands for a module; whatever is asked of it is taken from the module itself.

    `members` are what the library imports of it by name: each is found when it is used.
    """

    def __init__(self, name: str, members: Collection[str]) -> None:
        super().__init__(name)
        self._members = members

    def __getattr__(self, name: str) -> Any:
        if name == "__path__":  # `from module import name` would look for modules inside
            raise AttributeError(name)
        module = self.__name__
        if name in self._members:
            return _DeferredMember(module, name)
        if sys.modules.get(module) is self:
            del sys.modules[module]
        return getattr(importlib.import_module(module), name)


class _DeferredMember:
    """Stands for what a module calls by this name."""

    def __init__(self, module: str, name: str) -> None:
        self._place = module, name

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._found()(*args, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._found(), name)

    def _found(self) -> Any:
        module, name = self._place
        return getattr(importlib.import_module(module), name)


@contextmanager
def deferred(*modules: str, members: Collection[str] = ()) -> Iterator[None]:
    """What is imported inside gets a stand-in for each of these modules that is installed and not loaded."""
    standing = {
        name: _Deferred(name, members)
        for name in modules
        if name not in sys.modules and importlib.util.find_spec(name.partition(".")[0]) is not None
    }
    sys.modules.update(standing)
    try:
        yield
    finally:
        for name, module in standing.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Inside, importing this module fails as if it was not installed, unless it is loaded already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
