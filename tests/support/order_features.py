"""What the model of a story uses, and how it stands in config.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from support.order_oracle import Mode


@dataclass(frozen=True)
class Features:
    """What the model of a story uses."""

    mode: Mode = "upsert"
    has_cursor: bool = False
    skips_predicted: bool = False
    has_partitions: bool = False
    has_contract: bool = False
    uses_interval: bool = False
    has_own_table: bool = False  # a sink that was there before, and is no view of narrow rows
    has_pages: bool = False  # of two rows, on PostgreSQL: SQLite has no snapshot of several queries

    @property
    def are_allowed(self) -> bool:
        """Whether the product takes them together."""
        cursor_fits = self.mode == "upsert" and not (self.has_partitions or self.uses_interval)
        return (cursor_fits or not self.has_cursor) and not (self.mode == "replace" and self.skips_predicted)

    @property
    def has_sink_on_server(self) -> bool:
        """In the database of the pages: what was predicted is only left out if it is in the same one."""
        return self.has_pages and self.skips_predicted

    @property
    def changes_mode(self) -> bool:
        """Whether the configuration may turn from `upsert` to `replace` and back."""
        return self.mode != "append" and not (self.has_cursor or self.skips_predicted)

    @property
    def own_table(self) -> str:
        """The statement that makes the sink, as an earlier version did."""
        key = {"append": "dispatch_id, id"}.get(self.mode, "id")
        return (
            "CREATE TABLE echo_predictions (id BIGINT NOT NULL, prediction DOUBLE PRECISION,"
            " dispatch_id TEXT NOT NULL, model TEXT, artifact_sha256 TEXT, predicted_at TIMESTAMP,"
            f" PRIMARY KEY ({key}))"
        )

    def entry(self, threshold: int, mode: Mode | None = None) -> dict[str, Any]:
        """The model in config.yaml; `mode` if it is not that of the beginning."""
        query = "SELECT id, a, b, version FROM customers"
        if self.uses_interval:
            query += " WHERE '{{ data_interval_end }}' <> ''"
        source: dict[str, Any] = {"query": query, "skip_predicted": self.skips_predicted}
        if self.skips_predicted:  # only in one database
            source["connection"] = "sink"
        if self.has_cursor:
            source["cursor"] = {"column": "version"}
        if self.has_partitions:
            source["partitions"] = {"column": "id", "count": 2}
        if self.has_pages:
            source |= {"connection": "paged", "pages": {"column": "id", "rows": 2}}
        contract = {"input": {"columns": {"b": {"type": "number", "nullable": False}}}}
        sink: dict[str, str] = {"mode": mode or self.mode}
        if self.has_sink_on_server:
            sink["connection"] = "paged"
        return {
            "model": {"format": "skops", "uri": "echo.skops"},
            "source": source,
            "sink": sink,
            "error_threshold": threshold,
            **(contract if self.has_contract else {}),
        }
