"""`showroom:` of a model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mlops_plugin.config.parameter_types import ColumnName, ColumnNames, Line, Query
from mlops_plugin.config.schema.section import Section


class ImageConfig(Section):
    """`image:` of a Showroom: the features are the pixels of a picture, row by row."""

    width: Annotated[int, Field(ge=1, le=4096)] = Field(description="Pixels in a row.", examples=[8])
    height: Annotated[int, Field(ge=1, le=4096)] = Field(description="Rows of pixels.", examples=[8])


class ShowroomConfig(Section):
    """`showroom:` of a model: how its cases are shown to people."""

    title: Line | None = Field(
        default=None,
        description="Name shown in the Showroom; null: the model's name.",
        examples=["Customer churn"],
    )
    cases: Query | None = Field(
        default=None,
        description="One SQL statement that returns the cases to pick from, on the source's connection; "
        "without it the source's query.",
        examples=["SELECT id, name, age, income FROM customers"],
    )
    search: ColumnNames = Field(
        default=(),
        description="Columns to search; empty: the key.",
        examples=[["id", "name"]],
    )
    truth: ColumnName | None = Field(
        default=None,
        description="Column with the known outcome, shown next to the prediction.",
        examples=["churned"],
    )
    image: ImageConfig | None = Field(
        default=None,
        description="Set if the features are the pixels of a picture.",
        examples=[{"width": 8, "height": 8}],
    )
