"""The names that `model: {format: ...}` may have: ours, and those that installed packages register.

Only names are read here, of formats that are not ours: nothing is imported.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

# The libraries' own files.
NATIVE_FORMATS = ("lightgbm", "xgboost", "onnx", "catboost")
# A later version may add names without a dot, and only those.
OWN_FORMATS = ("skops", "joblib", "pickle", *NATIVE_FORMATS, "mlflow", "python")
FORMATS_GROUP = "mlops_plugin.formats"
SIGNATURE_SUFFIX = ".signature.json"  # as `signature_writer` has it, which is a file by itself


def is_foreign(name: str) -> bool:
    """Whether a format is another package's: its name has a dot, which none of ours ever has."""
    return "." in name


def foreign_names() -> tuple[str, ...]:
    """The formats that installed packages register, sorted; names without a dot are ignored."""
    return tuple(sorted({entry.name for entry in _entries() if is_foreign(entry.name)}))


def find_entry(name: str) -> EntryPoint:
    """What registers this format. Raises `ValueError` if no installed package does, or several do."""
    found = [entry for entry in _entries() if entry.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        packages = ", ".join(sorted(package_of(entry) for entry in found))
        raise ValueError(f"several packages register the format '{name}': {packages}; uninstall all but one")
    known = (*OWN_FORMATS, *foreign_names())
    near = difflib.get_close_matches(name.lower(), known, n=1)
    raise ValueError(
        f"no installed package registers the format '{name}'; "
        + (f"did you mean '{near[0]}'? Or " if near else "")
        + "install the package that does wherever Airflow parses DAGs, runs tasks or serves views; known are "
        + ", ".join(known)
    )


def package_of(entry: EntryPoint) -> str:
    """The package that registers a format, for messages."""
    return entry.dist.name if entry.dist is not None else entry.module


def check_format(name: object) -> str:
    """A name that can be used here; pydantic calls it."""
    from pydantic_core import PydanticKnownError  # a model's own environment reads names without it

    if isinstance(name, str) and is_foreign(name):
        find_entry(name)
        return name
    if isinstance(name, str) and name in OWN_FORMATS:
        return name
    context: dict[str, Any] = {"expected": ", ".join((*OWN_FORMATS, *foreign_names()))}
    raise PydanticKnownError("literal_error", context)


def _entries() -> list[EntryPoint]:
    from importlib.metadata import entry_points  # nobody needs it who uses our formats alone

    return [*entry_points(group=FORMATS_GROUP)]
