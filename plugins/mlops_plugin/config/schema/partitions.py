"""`partitions:` of a source: how one dispatch's rows are divided among tasks."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from mlops_plugin.config.parameter_types import ColumnName, SomeColumnNames, check_unique
from mlops_plugin.config.schema.section import Section
from mlops_plugin.config.sql_text import check_query

MAX_PARTITIONS = 1000


class PartitionsConfig(Section):
    """Either `column` and `count`, or `hash` and `count`, or `predicates`."""

    column: ColumnName | None = Field(
        default=None,
        description="Column of the query, of numbers, dates or timestamps: each partition is a range of it. "
        "The ranges are equally wide, from its least to its greatest value, and bounded by whole numbers.",
        examples=["id"],
    )
    hash: SomeColumnNames | None = Field(
        default=None,
        description="Columns of the query, of any type: the database computes a hash of each row that "
        "decides its partition.",
        examples=[["customer", "product"]],
    )
    predicates: tuple[str, ...] | None = Field(
        default=None,
        description="SQL conditions on the query's columns, one for each partition. Rows that meet none of "
        "them form one more partition.",
        examples=[["region = 'EU'", "region = 'US'"]],
    )
    count: Annotated[int, Field(ge=1, le=MAX_PARTITIONS)] | None = Field(
        default=None,
        description="How many partitions, for `column` and `hash`; a narrow range gives fewer.",
        examples=[8],
    )
    max_active: Annotated[int, Field(ge=1, le=MAX_PARTITIONS)] | None = Field(
        default=None,
        description="Partitions of one dispatch that may run at the same time. null: as many as "
        "Airflow's pool and executor allow.",
        examples=[4],
    )

    @field_validator("predicates")
    @classmethod
    def _check_predicates(cls, predicates: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if predicates is None:
            return None
        if not 1 <= len(predicates) < MAX_PARTITIONS:
            raise ValueError(f"1 to {MAX_PARTITIONS - 1} conditions, found {len(predicates)}")
        return check_unique(tuple(check_query(predicate) for predicate in predicates))

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        ways = {"column": self.column, "hash": self.hash, "predicates": self.predicates}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"needs one of column, hash and predicates, found {found}")
        if self.predicates is None and self.count is None:
            raise ValueError(f"{given[0]} needs a count; write e.g. count: 8")
        if self.predicates is not None and self.count is not None:
            raise ValueError("the number of predicates is the count; remove count")
        return self
