"""Names of files inside of a model's folder: below it, written in one way only."""

from __future__ import annotations

import re

from mlops_plugin.errors import ArtifactError

MOST_FILES = 10_000
_FIRST_PRINTABLE, _DELETE = " ", "\x7f"
_NO_TEXT = re.compile("[\ud800-\udfff]")  # bytes of a name that is not UTF-8


def is_plain_path(path: str) -> bool:
    """Whether it leads below the folder, without links' and other systems' ways to write it.

    `sha256sum` escapes a backslash and a line's end in names; so neither may be there.
    """
    parts = path.split("/")
    is_printable = all(_FIRST_PRINTABLE <= character != _DELETE for character in path)
    is_printable &= not _NO_TEXT.search(path)
    return is_printable and "\\" not in path and not {"", ".", ".."} & {*parts}


def require_plain_path(uri: str, path: str) -> None:
    """Raise `ArtifactError` for any other path."""
    if not is_plain_path(path):
        raise ArtifactError(
            f"model '{uri}' names the file {path!r}, which is not below the model's folder, or not plainly "
            "written; log the model again with MLflow"
        )
