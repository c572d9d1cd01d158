"""What a Showroom run is asked to do, and the rows that result."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import CaseError
from mlops_plugin.events.details.step_reports import CollectReport
from mlops_plugin.serving.case_paging import Key
from mlops_plugin.serving.case_values import text_of, typed_value
from mlops_plugin.serving.curves import Categories, Curve

ROWS_GIVEN = "rows of the request"  # in place of a query
MAX_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to run on: cases by their `keys`, `rows` as they are, or a `table` of typed rows with their key.

    With `changes` each case runs twice, as it is and then with those values. With a `curve` one case does so,
    and then with several values of one feature. `is_why`: one case runs as it is, and then mixed with a
    reference case. `continues`: a what-if of a moment ago, whose dispatch goes on with this one.
    """

    keys: Sequence[Key] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    table: pa.Table | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    curve: Curve | Categories | None = None
    is_why: bool = False
    continues: str | None = None

    @property
    def is_what_if(self) -> bool:
        return bool(self.changes) or self.curve is not None

    def report(self, rows: int) -> CollectReport:
        """What the record of `collect` keeps of it."""
        keys = tuple(tuple(map(text_of, key)) for key in self.keys)
        curve = None if self.curve is None else self.curve.feature
        return CollectReport(rows, keys=keys or None, changes=dict(self.changes) or None, curve=curve)


def given_rows(
    model: ModelConfig, rows: Sequence[Mapping[str, Any]], reads: Callable[[], Collection[str]]
) -> pa.RecordBatchReader:
    """Rows of a request; if they lack the key, their number (from 1) takes its place.

    `reads`: the columns that the model or its contract reads. Nothing is made up for those.
    """
    if not 1 <= len(rows) <= MAX_ROWS:
        raise CaseError(f"the request has {len(rows)} rows; send 1 to {MAX_ROWS}, or keys of cases")
    for number, row in enumerate(rows, 1):
        if different := sorted(set(rows[0]).symmetric_difference(row)):
            raise CaseError(
                f"rows 1 and {number} of the request differ in {', '.join(different)}; send the same columns "
                "in every row, null where there is no value"
            )
    for name in rows[0]:
        kinds = {type(row[name]) for row in rows}
        if bool in kinds and float in kinds:  # Arrow would make 1.0 of true
            raise CaseError(f"column '{name}' of the request has numbers beside true or false; send one type")
    key = [name for name in model.key if name not in rows[0]]
    if needed := sorted(set(key).intersection(reads() if key else ())):
        raise CaseError(
            f"the rows of the request lack {', '.join(needed)}, which the model or its contract reads; send "
            "that, too"
        )
    numbered = [{**dict.fromkeys(key, number), **row} for number, row in enumerate(rows, 1)]
    try:
        return pa.Table.from_pylist(numbered).to_reader()
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise CaseError(
            f"the rows of the request cannot be converted to columns: {error}; send each feature as a "
            "number, text, true or false, or null, and of the same type in every row"
        ) from error


def changed_rows(rows: pa.Table, changes: Mapping[str, Any]) -> pa.Table:
    """The rows as they are, and after them the same rows with `changes` (column -> value)."""
    changed = rows
    for name, value in changes.items():
        if name not in rows.schema.names:
            raise CaseError(
                f"there is no column '{name}' to change; there are {', '.join(rows.schema.names)}"
            )
        kind = rows.schema.field(name).type
        try:
            typed = typed_value(name, value, kind)
            column = pa.array([typed] * rows.num_rows, kind)
            if rows.num_rows:
                _require_held(typed, column[0].as_py(), kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise CaseError(f"column '{name}': {value!r} is not a valid {kind}; correct the value") from error
        changed = changed.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)
    return pa.concat_tables([rows, changed])


def _require_held(value: Any, held: Any, kind: pa.DataType) -> None:
    """Raise `ValueError` if Arrow has made another value of it: 1.5 becomes 1 among integers."""
    if isinstance(value, bool) != isinstance(held, bool):
        raise ValueError("true and false are no numbers")
    if pa.types.is_floating(kind) and kind != pa.float64():  # rounded, as every number that it holds
        is_held = value is None or math.isfinite(value) == math.isfinite(held)
    else:
        is_held = value == held or (value != value and held != held)
    if not is_held:
        raise ValueError(f"it would become {held}")
