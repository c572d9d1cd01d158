"""`source.cursor:` of a model: the column by which a dispatch reads only what is new."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from mlops_plugin.config import durations
from mlops_plugin.config.parameter_types import TIME_PATTERN, ColumnName
from mlops_plugin.config.schema.section import Section

_LARGEST = 2**63 - 1


def _check_lag(value: object) -> int | timedelta:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= _LARGEST:
            raise ValueError(f"{value} is not a valid lag; write 0 or more")
        return value
    return durations.parse_duration(value)


def _check_initial(value: object) -> int | str | None:
    if isinstance(value, date):  # a datetime is one; YAML makes them of what looks like one
        return value.isoformat()
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise ValueError(
                f"'{value}' is not a date or time; write e.g. 2026-01-31 or a whole number"
            ) from error
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return value
    if value is None:
        return None
    raise ValueError("expected a date, a time or a whole number of at most 19 digits")


Lag = Annotated[
    int | timedelta,
    BeforeValidator(_check_lag),
    PlainSerializer(lambda lag: lag if isinstance(lag, int) else durations.format_duration(lag)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": _LARGEST},
                {"type": "string", "pattern": durations.PATTERN},
            ]
        }
    ),
]
Initial = Annotated[
    int | str | None,
    BeforeValidator(_check_initial),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": -_LARGEST, "maximum": _LARGEST},
                {"type": "string", "pattern": TIME_PATTERN},
                {"type": "null"},
            ]
        }
    ),
]


class CursorConfig(Section):
    """`source.cursor:` of a model: how a dispatch knows what is new."""

    column: ColumnName = Field(
        description="Column of the query that only grows: a time, a date or a whole number that each new or "
        "changed row gets. It must not be NULL.",
        examples=["updated_at"],
    )
    lag: Lag = Field(
        default=0,
        description="How far before the watermark a dispatch starts to read, for rows that arrive "
        "late: a duration for times and dates, a whole number for whole numbers.",
        examples=["15m", 1000],
    )
    initial: Initial = Field(
        default=None,
        description="Where the first dispatch starts; `null`: it reads all rows.",
        examples=["2026-01-31", 500_000],
    )

    @model_validator(mode="after")
    def _check_units(self) -> Self:
        steps_in_time = isinstance(self.lag, timedelta)
        if self.initial is not None and (self.lag or steps_in_time):
            if steps_in_time and isinstance(self.initial, int):
                raise ValueError(
                    f"lag is a duration, but initial is the number {self.initial}; write both in the unit of "
                    f"'{self.column}'"
                )
            if not steps_in_time and isinstance(self.initial, str):
                raise ValueError(
                    f"lag is the number {self.lag}, but initial is the time {self.initial}; write e.g. "
                    "lag: 15m"
                )
        return self
