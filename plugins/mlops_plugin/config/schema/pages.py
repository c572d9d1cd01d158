"""`pages:` of a source: how `collect` reads a query whose result the driver would hold as a whole."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mlops_plugin.config.parameter_types import ColumnName
from mlops_plugin.config.schema.section import Section


class PagesConfig(Section):
    """Ranges of a column, read one after the other on one connection, from one snapshot."""

    column: ColumnName = Field(
        description="Column of the query, of numbers, dates or timestamps, preferably with an index.",
        examples=["id"],
    )
    rows: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(
        default=100_000,
        description="About how many rows a page has.",
        examples=[50_000],
    )
