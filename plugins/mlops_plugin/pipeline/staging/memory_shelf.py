"""A shelf without a disk, for a few rows that are wanted at once; the steps see no difference."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mlops_plugin.pipeline.staging.shelf import OnBegun, Shelf, Staged


@dataclass(frozen=True)
class MemoryShelf(Shelf):
    """Holds rows and notes as long as it lives."""

    url: str = "memory"
    _files: dict[str, tuple[pa.Schema, list[pa.RecordBatch]]] = field(default_factory=dict)
    _notes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def put(
        self,
        name: str,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
        on_begun: OnBegun | None = None,  # noqa: ARG002 -- of the base class
    ) -> tuple[Staged, int]:
        kept = list(batches)
        rows = sum(batch.num_rows for batch in kept)
        file_name = self._named(name)
        self._files[file_name] = (schema, kept)
        self.on_rows(rows)
        return Staged(file_name, None), rows

    @contextlib.contextmanager
    def rows(self, file: Staged) -> Iterator[pa.RecordBatchReader]:
        schema, batches = self._files[file.name]
        yield pa.RecordBatchReader.from_batches(schema, iter(batches))

    def put_note(self, name: str, note: Mapping[str, Any]) -> None:
        self._notes[self._named(name)] = dict(note)

    def find_note(self, name: str) -> dict[str, Any] | None:
        note = self._notes.get(self._named(name))
        return None if note is None else dict(note)

    def has_rows(self, file: Staged) -> bool:
        return file.name in self._files

    def remove_rows(self) -> None:
        """They go with the shelf: whoever asked for the run is about to read them."""
