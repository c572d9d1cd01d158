"""What a dispatch has read of its query, as notes and events keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlops_plugin.pipeline.reading.cursor_values import Kind, Value, parse


@dataclass(frozen=True)
class IncrementRead:
    """The range of the cursor that was read, from `first` to `greatest`, and what was left out of it.

    Values are texts of type `kind` (`cursor_values.serialize`); None if there was no such value.
    `generation` is that of the high-water mark at which the dispatch began.
    """

    column: str | None = None
    kind: Kind | None = None
    first: str | None = None
    greatest: str | None = None
    generation: int = 0
    skipped_artifact: str | None = None  # rows with a prediction by this artifact were left out

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> IncrementRead:
        """What `to_json` stored, in a note or in an event's details."""
        known = cls.__dataclass_fields__.keys() & stored.keys()
        return cls(**{name: stored[name] for name in known})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def first_value(self) -> Value | None:
        return None if self.first is None or self.kind is None else parse(self.first, self.kind)

    @property
    def greatest_value(self) -> Value | None:
        return None if self.greatest is None or self.kind is None else parse(self.greatest, self.kind)
