"""Where in its file each part of a model's entry stands; `mlops check` shows it beside what it finds.

The file is read again for that: lines of everything are no burden for Airflow, which parses it all the time.
"""

from __future__ import annotations

from pathlib import Path

from mlops_plugin.config.document import Document, KeyPath, Unreadable, parse, read_text
from mlops_plugin.config.excerpt import Excerpts
from mlops_plugin.config.loader import LoadedConfig, shown_path


class Places:
    """The lines of one configuration."""

    def __init__(self, loaded: LoadedConfig) -> None:
        self._loaded = loaded
        self._documents: dict[tuple[Path, str], Document | None] = {}

    def of_model(self, name: str, keys: KeyPath) -> str:
        """`config.yaml:12`: the line of this part of the entry, or of the nearest part around it."""
        return self._shown(self._loaded.file_of(name), ("models", name, *keys), name)

    def of_setting(self, keys: KeyPath) -> str:
        """The same of a section outside of `models:`."""
        return self._shown(self._loaded.path, keys, "")

    def _shown(self, path: Path, keys: KeyPath, name: str) -> str:
        document = self._document(path, name)
        line = document.line(keys) if document else None
        return shown_path(path) if line is None else f"{shown_path(path)}:{line}"

    def _document(self, path: Path, name: str) -> Document | None:
        """The whole file or, if it is no YAML as a whole, the model's part of it."""
        if (path, "") not in self._documents:
            self._documents[path, ""] = _parsed(read_text(path))
        whole = self._documents[path, ""]
        if whole is not None or not name:
            return whole
        if (path, name) not in self._documents:
            excerpts = Excerpts(read_text(path))
            blocks = [block for block in excerpts.blocks if block.name == name]
            self._documents[path, name] = _parsed(excerpts.with_only(blocks[0])) if blocks else None
        return self._documents[path, name]


def _parsed(text: str) -> Document | None:
    try:
        return parse(text)
    except Unreadable:
        return None
