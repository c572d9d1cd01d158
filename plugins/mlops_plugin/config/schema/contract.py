"""`input:`, `output:` and `quarantine:` of a model: what is checked, and where rejected rows go."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, WithJsonSchema, model_validator

from mlops_plugin.config.parameter_types import ColumnName, ConnectionId, Table, check_unique
from mlops_plugin.config.schema.section import Section

ColumnType = Literal["integer", "number", "boolean", "text", "date", "timestamp"]
BASELINE_SUFFIX = ".baseline.json"

PERCENT_PATTERN = r"^(\d{1,3}(\.\d{1,6})?) ?%$"
_MOST_ROWS = 10**12


def _check_bound(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if is_number or isinstance(value, date):
        return value
    raise ValueError(f"found {_shown(value)}, expected a number or a date, e.g. 0, -1.5 or 2026-01-31")


def _check_values(values: object) -> object:
    if not isinstance(values, tuple) or not values:
        raise ValueError("expected a list with at least one value, e.g. [red, green]")
    for value in values:
        _check_value(value)
    if len({_kind(value) for value in values}) > 1:
        raise ValueError(
            f"found {_shown(values)}; the values must be all numbers, all text or all true/false"
        )
    check_unique(tuple(_shown(value) for value in values))
    return values


def _check_value(value: object) -> object:
    if value is None or isinstance(value, bool | int | str | date):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError(f"found {_shown(value)}, expected a number, text, a date, true or false")


def _check_baseline(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, str) and value.strip()):
        return value
    raise ValueError(f"found {_shown(value)}, expected true, false or the path of a baseline")


def _check_threshold(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_ROWS:
        return value
    if (
        isinstance(value, str)
        and (match := re.fullmatch(PERCENT_PATTERN, value))
        and Fraction(match[1]) <= 100
    ):
        return value
    raise ValueError(
        f"found {_shown(value)}, expected a number of rows, e.g. 10, or a share of them, e.g. 2%"
    )


def _kind(value: object) -> str:
    """Which values can be compared with each other."""
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case date():  # a datetime is one
            return "date"
    return "text"


def _shown(value: object) -> str:
    """A value as it stands in YAML."""
    match value:
        case bool():
            return str(value).lower()
        case date():
            return value.isoformat()
        case str():
            return f"'{value}'"
        case list() | tuple():
            return f"[{', '.join(map(_shown, value))}]"
    return "null" if value is None else str(value)


_VALUE_SCHEMA: list[dict[str, Any]] = [{"type": "number"}, {"type": "string"}, {"type": "boolean"}]
Bound = Annotated[
    int | float | datetime | date,
    BeforeValidator(_check_bound),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "format": "date"}]}),
]
Value = Annotated[
    bool | int | float | datetime | date | str | None,
    BeforeValidator(_check_value),
    WithJsonSchema({"anyOf": [*_VALUE_SCHEMA, {"type": "null"}]}),
]
Values = Annotated[
    tuple[bool | int | float | datetime | date | str, ...],
    BeforeValidator(_check_values),
    WithJsonSchema({"type": "array", "items": {"anyOf": _VALUE_SCHEMA}, "minItems": 1}),
]
Threshold = Annotated[
    int | str,
    BeforeValidator(_check_threshold),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": _MOST_ROWS},
                {"type": "string", "pattern": PERCENT_PATTERN},
            ]
        }
    ),
]

Baseline = Annotated[
    bool | str,
    BeforeValidator(_check_baseline),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string", "minLength": 1}]}),
]


def rows_tolerated(threshold: int | str, collected: int) -> int:
    """How many of the collected rows may be rejected; a share is rounded down."""
    if isinstance(threshold, int):
        return threshold
    return math.floor(collected * Fraction(threshold.rstrip("% ")) / 100)


class ColumnContract(Section):
    """One entry of `columns:`: what the values of one column of the query must be."""

    type: ColumnType | None = Field(
        default=None,
        description="The type of each value. Text that holds a number or true/false is converted; without a "
        "type the column is taken as the query gives it.",
        examples=["integer"],
    )
    nullable: bool | None = Field(
        default=None,
        description="Whether a value may be missing (NULL or NaN). null: as in the baseline, else true.",
        examples=[False],
    )
    min: Bound | None = Field(default=None, description="The least value.", examples=[0])
    max: Bound | None = Field(default=None, description="The greatest value.", examples=[120])
    allowed: Values | None = Field(
        default=None, description="All values that may occur.", examples=[["red", "green"]]
    )
    on_violation: Literal["reject", "impute", "fail"] = Field(
        default="reject",
        description="`reject`: the row goes to the quarantine. `impute`: the value is replaced. `fail`: the "
        "dispatch fails.",
        examples=["fail"],
    )
    impute: Value = Field(
        default=None,
        description="What replaces an invalid value with `on_violation: impute`; null makes it missing.",
        examples=[0],
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for complaint in (*self._about_range(), *self._about_allowed(), *self._about_impute()):
            raise ValueError(complaint)
        return self

    def _about_range(self) -> Sequence[str]:
        bounds = [bound for bound in (self.min, self.max) if bound is not None]
        if bounds and self.type in ("text", "boolean"):
            return [f"min and max are for numbers and dates, but type is {self.type}; use allowed"]
        expected = {"integer": "number", "number": "number", "date": "date", "timestamp": "date"}.get(
            self.type or ""
        )
        for bound in bounds:
            if expected and _kind(bound) != expected:
                return [f"{_shown(bound)} is not a {expected}, but type is {self.type}"]
        if len(bounds) < 2:
            return []
        if _kind(self.min) != _kind(self.max):
            return [f"min {_shown(self.min)} and max {_shown(self.max)} are of different kinds"]
        if _sortable(self.min) > _sortable(self.max):
            return [f"min {_shown(self.min)} is above max {_shown(self.max)}: no value is valid"]
        if self.type == "integer" and math.ceil(self.min) > math.floor(self.max):  # type: ignore[arg-type]
            return [f"there is no whole number from {_shown(self.min)} to {_shown(self.max)}"]
        return []

    def _about_allowed(self) -> Sequence[str]:
        return [
            f"allowed value {_shown(value)} {wrong}"
            for value in self.allowed or ()
            if (wrong := self._wrong_with(value))
        ]

    def _about_impute(self) -> Sequence[str]:
        is_given = "impute" in self.model_fields_set
        if self.on_violation != "impute":
            return [f"impute needs on_violation: impute, found {self.on_violation}"] if is_given else []
        if not is_given:
            return ["on_violation: impute needs a value to take its place; write e.g. impute: 0"]
        if self.impute is None:
            return (
                ["impute: null makes a value missing, but nullable is false"]
                if self.nullable is False
                else []
            )
        if self.allowed is not None and _folded(self.impute) not in map(_folded, self.allowed):
            return [f"impute: {_shown(self.impute)} is not among the allowed values {_shown(self.allowed)}"]
        wrong = self._wrong_with(self.impute)
        return [f"impute: {_shown(self.impute)} {wrong}"] if wrong else []

    def _wrong_with(self, value: Any) -> str:
        """What this column's type and range have against a value that the configuration gives."""
        kind = _kind(value)
        wanted = {"integer": "number", "timestamp": "date"}.get(self.type or "", self.type)
        if (wanted and kind != wanted) or (self.type == "integer" and value != math.floor(value)):
            return f"is not of type {self.type}"
        for bound, word in ((self.min, "below min"), (self.max, "above max")):
            if bound is None:
                continue
            if _kind(bound) != kind:
                return f"cannot be compared with {_shown(bound)}"
            one, other = _sortable(value), _sortable(bound)
            if one < other if bound is self.min else one > other:
                return f"is {word} {_shown(bound)}"
        return ""


def _folded(value: object) -> tuple[str, Any]:
    """Equal for values that a column may hold for each other: 1 and 1.0, not 1 and true."""
    return _kind(value), value


def _sortable(value: Any) -> Any:
    """Dates and moments in one order; a moment without a zone is UTC."""
    if isinstance(value, datetime):
        return value.timestamp() if value.tzinfo else value.replace(tzinfo=UTC).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    return value


class InputContract(Section):
    """`input:` of a model: what rows must satisfy; the model never sees other rows."""

    columns: dict[ColumnName, ColumnContract] = Field(
        default={},
        description="Columns of the query, features or not, and which values are valid.",
        examples=[{"age": {"type": "integer", "nullable": False, "min": 0, "max": 120}}],
    )
    baseline: Baseline = Field(
        default=False,
        description="A file made by `mlops baseline`: each feature must keep its type, range and "
        f"categories. An entry in `columns` takes precedence. true: the file next to the artifact, "
        f"`ARTIFACT{BASELINE_SUFFIX}`. A path is relative to the folder of this configuration.",
        examples=[True],
    )
    _folder: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check_says_something(self) -> Self:
        if not self.columns and not self.baseline:
            raise ValueError("empty; list columns, or set baseline: true after `mlops baseline MODEL`")
        return self

    def located_in(self, folder: Path) -> InputContract:
        """The same contract, with the folder that a relative path to a baseline begins in."""
        located = self.model_copy()
        located._folder = folder
        return located

    def baseline_uri(self, artifact_uri: str) -> str | None:
        """Where the baseline is, or None if the contract has none."""
        if not self.baseline:
            return None
        if self.baseline is True:
            return artifact_uri + BASELINE_SUFFIX
        return self.baseline if "://" in self.baseline else str((self._folder or Path()) / self.baseline)


class OutputContract(Section):
    """`output:` of a model: what happens if it answers NaN, an infinite number or an unknown class."""

    on_violation: Literal["reject", "fail"] = Field(
        default="fail",
        description="What happens after a NaN, an infinite number or an unknown class: `fail` the "
        "dispatch, or `reject` the row.",
        examples=["reject"],
    )


class QuarantineConfig(Section):
    """`quarantine:` of a model: where its rejected rows go."""

    connection: ConnectionId | None = Field(
        default=None,
        description="Id of the Airflow connection to write to; null: the sink's.",
        examples=["warehouse"],
    )
    table: Table | None = Field(
        default=None,
        description="The table of rejected rows; null: the sink's table name with `_quarantine` appended.",
        examples=["churn_rejected", "scores.rejected"],
    )
    create: bool | None = Field(
        default=None,
        description="Create the table if it is missing; null: as the sink does.",
        examples=[True],
    )

    def table_beside(self, sink_table: str) -> str:
        """The table's name, by default beside the sink's."""
        if self.table is not None:
            return self.table
        return f'{sink_table[:-1]}_quarantine"' if sink_table.endswith('"') else f"{sink_table}_quarantine"
