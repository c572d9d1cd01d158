"""docs/formats.md says of each format what saves it, what it is equal to, and how large its library is."""

from __future__ import annotations

import re

import pytest

from benchmarks.library_costs import LIBRARIES, PAGE, Library, size_mb
from mlops_plugin.config.format_names import NATIVE_FORMATS

_NEAR = 0.3  # wheels for another Python or machine are not as large


def test_every_format_of_a_file_is_in_the_table() -> None:
    named = {name for library in LIBRARIES for name in library.format.split(", ")}
    assert named == {"skops", "joblib", "pickle", *NATIVE_FORMATS}


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.package)
def test_a_row_says_what_is_installed(library: Library) -> None:
    first = library.format.split(", ")[0]
    row = rf"^\| `{first}`.* \| {library.package} [\d.]+ \| (\d+) \| [\w. ]+ \|$"
    (size,) = re.findall(row, PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert abs(int(size) - size_mb(library.package)) <= max(1, _NEAR * int(size))
