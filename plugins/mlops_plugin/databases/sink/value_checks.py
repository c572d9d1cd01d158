"""Values that a column would change although it takes others of their type; `stored_rows` asks.

A text too long, a fraction of a second too fine, an integer that no double has: engines cut and round them,
some even in their strict modes. Each check is vectorised, a millisecond or less for 50,000 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.databases.database import Database
from mlops_plugin.databases.engines.arrow_kinds import value_kind
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.engines.table_column import TableColumn
from mlops_plugin.databases.sink.column_fit import alteration
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import SinkError

# True for each value that would be changed; None if none would.
_Changed = Callable[[pa.Array], "pa.Array | None"]
_MOST_EXACT = {"float64": 2**53, "real": 2**53, "float32": 2**24}
_MOMENTS = frozenset({"time", "timestamp", "timestamp_utc"})
_UUID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_SQLITE_NUMBER = r"^[ \t\n\v\f\r]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t\n\v\f\r]*$"
# Not 24:00:00, of which engines make the next day, nor a leap second.
_DAY, _CLOCK = "[0-9]{4}-[0-9]{2}-[0-9]{2}", "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_LONGER = "give it a longer type"
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class _Rule:
    """One way in which a column changes values; `loss` goes on after "it"."""

    loss: str
    changed: _Changed
    remedy: str | None = None  # if another type of column would not do


@dataclass(frozen=True)
class ValueCheck:
    """A rule about a column of the table, and the words to refuse a value with."""

    place: str
    rule: _Rule
    remedy: str

    def require_kept(self, values: pa.Array, rows_before: int) -> None:
        """Raise `SinkError` naming the first value that would be changed."""
        changed = self.rule.changed(values)
        if changed is None or (row := first_true(changed)) is None:
            return
        found = repr(values[row].as_py())
        shown = found if len(found) <= _SHOWN_CHARACTERS else f"{found[: _SHOWN_CHARACTERS - 3]}..."
        raise SinkError(
            f"{self.place} would change {shown} in row {rows_before + row + 1} of the dispatch: "
            f"it {self.rule.loss}; {self.remedy}"
        )


def first_true(found: pa.BooleanArray) -> int | None:
    """The position of the first true value, if there is one."""
    # Asked first, and not only for speed: making a scalar loads pandas.
    return pc.index(found, pa.scalar(True)).as_py() if pc.any(found).as_py() else None


def value_checks(
    database: Database,
    table: TableName,
    columns: Mapping[str, TableColumn],
    schema: pa.Schema,
    key: Sequence[str],
    view: TableName | None = None,
) -> Mapping[str, Sequence[ValueCheck]]:
    """What to look for in each column of a dispatch that goes into this table, by the column's name.

    `columns` by folded name, as `predictions_table.table_columns` gives them; `view` shows them, if any.
    """
    engine = database.engine
    rules_of = _rules_of_affinity if engine.values_have_types else _rules
    found = {}
    for field in schema:
        column = columns.get(engine.fold(field.name))
        if column is not None:
            place = f"connection '{database.conn_id}': column '{field.name}' ({column.shown}) of {table}"
            remedy = alteration(engine, table, field, view, is_key=field.name in key)
            found[field.name] = [
                ValueCheck(place, rule, rule.remedy or remedy)
                for rule in rules_of(column, value_kind(field.type), engine)
            ]
    return found


def _rules(column: TableColumn, kind: str, engine: Engine) -> Iterator[_Rule]:
    if kind == "text":
        yield from _rules_of_texts(column, engine)
    if kind in ("text", "binary") and column.kind == "fixed binary":
        size = column.octets or 0
        yield _Rule(f"pads to {size} bytes", _other_size(pc.binary_length, size))
    if kind == "int" and column.kind in _MOST_EXACT:
        most = _MOST_EXACT[column.kind]
        yield _Rule(f"holds integers up to {most} exactly", _beyond(-most, most))
    if kind == "int" and column.kind == "year":
        yield _Rule("stores only 1901 to 2155 unchanged", _beyond(1901, 2155))
    if kind in _MOMENTS and column.kind in _MOMENTS and column.fraction < 6:
        loss = f"has {column.fraction} digits for the fraction of a second"
        yield _Rule(loss, _finer_than(column.fraction))


def _rules_of_texts(column: TableColumn, engine: Engine) -> Iterator[_Rule]:
    size, octets = column.characters, column.octets
    if size is not None and column.kind == "char" and not engine.trims_char:
        yield _Rule(f"pads to {size} characters", _other_size(pc.utf8_length, size))
    elif size is not None:
        # Blanks at the end are cut without an error, strict mode or not.
        yield _Rule(f"has room for {size} characters", _longer_than(size, pc.utf8_length), _LONGER)
        if column.kind == "char":
            yield _Rule("drops trailing blanks", lambda values: pc.ends_with(values, " "))
    if octets is not None and column.kind == "text":
        yield _Rule(f"has room for {octets} bytes", _longer_than(octets, pc.binary_length), _LONGER)
    if column.kind == "enum" and engine.folds_enum:
        # It takes 'A' and 'a ' for 'a', and '1' for the first member.
        members = pa.array(column.members, pa.string())
        loss = f"has the members {', '.join(map(repr, column.members))}"
        yield _Rule(
            loss, lambda values: pc.and_not(pc.is_valid(values), pc.is_in(values, members)), "add it to them"
        )
    patterns = {
        "uuid": _UUID,
        "date": f"^{_DAY}$",
        "time": f"^{_CLOCK}{_fraction(column.fraction)}$",
        "timestamp": f"^{_DAY}[ T]{_CLOCK}{_fraction(column.fraction)}$",
    }
    if column.kind in patterns:
        yield _Rule(f"changes how a {column.kind} is written", _not_matching(patterns[column.kind]))


def _rules_of_affinity(column: TableColumn, kind: str, _engine: Engine) -> Iterator[_Rule]:
    if kind == "text" and column.kind not in ("text", "none"):
        yield _Rule(
            "converts text that looks like a number",
            lambda values: pc.match_substring_regex(values, _SQLITE_NUMBER),
        )
    if kind == "int" and column.kind in _MOST_EXACT:
        most = _MOST_EXACT[column.kind]
        yield _Rule(f"holds integers up to {most} exactly", _beyond(-most, most))


def _longer_than(most: int, measure: Callable[[pa.Array], pa.Array]) -> _Changed:
    def changed(values: pa.Array) -> pa.Array | None:
        # A text has at most as many characters as bytes, and bytes are counted at once. Comparing with a
        # Python number would load pandas.
        if (pc.max(pc.binary_length(values)).as_py() or 0) <= most:
            return None
        return pc.greater(measure(values), most)

    return changed


def _other_size(measure: Callable[[pa.Array], pa.Array], size: int) -> _Changed:
    return lambda values: pc.not_equal(measure(values), size)


def _beyond(least: int, most: int) -> _Changed:
    return lambda values: pc.or_(pc.less(values, least), pc.greater(values, most))


def _not_matching(pattern: str) -> _Changed:
    return lambda values: pc.invert(pc.match_substring_regex(values, pattern))


def _finer_than(fraction: int) -> _Changed:
    step = 10 ** (6 - fraction)

    def changed(values: pa.Array) -> pa.Array:
        microseconds = values.view(pa.int64())
        return pc.not_equal(microseconds, pc.multiply(pc.divide(microseconds, step), step))

    return changed


def _fraction(digits: int) -> str:
    return rf"(\.[0-9]{{1,{digits}}})?" if digits else ""
