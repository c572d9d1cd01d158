"""Predictions as the persist step hands them over, and sinks for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa

from mlops_plugin.config.schema import SinkConfig
from mlops_plugin.databases.sink.write_request import Order, Registration

AT = datetime(2026, 11, 23, 4, 5, 6, 123456, tzinfo=UTC)
Mode = Literal["append", "upsert", "replace"]
MODES: tuple[Mode, ...] = ("append", "upsert", "replace")


def sink_config(mode: Mode, *, table: str = "predictions", create: bool = True) -> SinkConfig:
    return SinkConfig(connection="sink", table=table, mode=mode, create=create)


def registration(number: int, end: datetime | None = None, *, is_forced: bool = False) -> Registration:
    """Of a dispatch with this number whose rows are `predictions`."""
    return Registration(Order(number, end), "churn", "ab" * 32, AT, is_forced)


def predictions(
    ids: Sequence[Any] | pa.Array, values: Sequence[Any] | None = None, *, dispatch: str = "d1", **more: Any
) -> pa.Table:
    """A dispatch as the persist step hands it over; `values` are 0.5 unless told."""
    ids = ids if isinstance(ids, pa.Array) else pa.array(ids)
    count = len(ids)
    values = values if values is not None else [0.5] * count
    columns = {
        "id": ids,
        "prediction": values if isinstance(values, pa.Array) else pa.array(values, pa.float64()),
        **more,
    }
    return pa.table({**columns, **provenance(count, dispatch)})


def provenance(count: int, dispatch: str) -> dict[str, pa.Array]:
    return {
        "dispatch_id": pa.array([dispatch] * count, pa.string()),
        "model": pa.array(["churn"] * count, pa.string()),
        "artifact_sha256": pa.array(["ab" * 32] * count, pa.string()),
        "predicted_at": pa.array([AT] * count, pa.timestamp("us", "UTC")),
    }
