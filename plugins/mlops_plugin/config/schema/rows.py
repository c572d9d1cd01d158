"""`source:` and `sink:` of a model: where rows come from and where predictions go."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlops_plugin.config.parameter_types import ConnectionId, Query, Table
from mlops_plugin.config.schema.cursor import CursorConfig
from mlops_plugin.config.schema.pages import PagesConfig
from mlops_plugin.config.schema.partitions import PartitionsConfig
from mlops_plugin.config.schema.section import Section


class SourceConfig(Section):
    """`source:` of a model: where its rows come from."""

    connection: ConnectionId = Field(
        description="Id of the Airflow connection to read from (types: odbc, mysql, postgres, sqlite, "
        "duckdb).",
        examples=["warehouse"],
    )
    query: Query = Field(
        description="One SQL statement that returns the key columns and the features; other columns are "
        "ignored. "
        "An Airflow template: `{{ data_interval_start }}`, `{{ ds }}` and other macros work.",
        examples=["SELECT id, age, income FROM customers WHERE updated_at >= '{{ data_interval_start }}'"],
    )
    batch_rows: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=50_000,
        description="Rows per batch; a step's memory grows with this, not with the table. "
        "A batch has at most a million values, so rows of more than 20 columns come in smaller batches.",
        examples=[10_000],
    )
    max_text_bytes: Annotated[int, Field(ge=1, le=1_073_741_824)] = Field(
        default=4096,
        description="odbc only: the longest text value in bytes. A longer value fails "
        "the dispatch; it is never truncated.",
        examples=[65_536],
    )
    cursor: CursorConfig | None = Field(
        default=None,
        description="Read only rows newer than the last successful dispatch; needs `sink.mode: upsert`.",
        examples=[{"column": "updated_at", "lag": "15m"}],
    )
    skip_predicted: bool = Field(
        default=False,
        description="Leave out rows that have a prediction by the same artifact and settings in the sink, or "
        "that were rejected under the same artifact and contract; needs the sink on the source's connection, "
        "and not mode `replace`.",
        examples=[True],
    )
    pages: PagesConfig | None = Field(
        default=None,
        description="Read in ranges of a column, one after the other, from one snapshot: for ODBC drivers "
        "that hold a whole result in memory. MariaDB, MySQL and PostgreSQL only. null: read in one "
        "statement.",
        examples=[{"column": "id"}],
    )
    partitions: PartitionsConfig | None = Field(
        default=None,
        description="How one dispatch's rows are divided among parallel tasks. "
        "null: one task reads them all.",
        examples=[{"column": "id", "count": 8}],
    )


class SinkConfig(Section):
    """`sink:` of a model: where its predictions go."""

    connection: ConnectionId = Field(
        description="Id of the Airflow connection to write to (types: odbc, mysql, postgres, sqlite, "
        "duckdb).",
        examples=["warehouse"],
    )
    table: Table = Field(
        description="The predictions table: `table` or `schema.table`; a part with a dot or a quote is "
        "written in double quotes.",
        examples=["churn_predictions", 'scores."2026.churn"'],
    )
    mode: Literal["append", "upsert", "replace"] = Field(
        default="upsert",
        description="`upsert`: one row per key, the newest wins. `append`: every dispatch adds its rows. "
        "`replace`: the table holds the newest dispatch only. Each is safe to retry.",
        examples=["append"],
    )
    create: bool = Field(
        default=False,
        description="Create the table if it is missing; with false, a missing table is an error.",
        examples=[True],
    )
