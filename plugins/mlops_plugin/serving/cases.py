"""The cases of a model: rows that a person can pick, found, sorted and paged by the database.

The model's query stands inside ours as a subquery, so no more than a page travels. Values are parameters and
names are quoted; what a browser sends is compared with the query's columns before it becomes SQL.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.database import Database
from mlops_plugin.errors import CaseError, KeyColumnError
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.rendering import render

MAX_PAGE_ROWS = 200
MAX_CHOSEN = 200
SAMPLE_ROWS = 500
_LAST_PAGE = 10_000_000
_ESCAPE = "!"

_AS_TEXT = {"mysql": "CHAR", "postgresql": "TEXT", "sqlite": "TEXT", "mssql": "NVARCHAR(4000)"}

Key = tuple[Any, ...]


@dataclass(frozen=True)
class CaseView:
    """What a person wants to see: `page` counts from 1; `sort` is a column, without one the key."""

    search: str = ""
    sort: str | None = None
    is_descending: bool = False
    page: int = 1
    page_rows: int = 25


@dataclass(frozen=True)
class CasePage:
    """Rows of one page, key columns first, with the type that each column arrived in."""

    rows: pa.Table
    has_more: bool


class Cases:
    """The cases of one model, over an open database; used by one thread, and closed by `open_cases`."""

    def __init__(self, model: ModelConfig, database: Database, query: str) -> None:
        self._model = model
        self._database = database
        self.query = query.strip().rstrip(";")
        self.schema = database.describe(self.query)
        missing = [name for name in model.key if name not in self.schema.names]
        if missing:
            raise KeyColumnError(
                f"models.{model.name}.showroom.cases: the query returns no key column {', '.join(missing)}; "
                f"it returns {', '.join(self.schema.names)}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns, the key's first."""
        rest = [name for name in self.schema.names if name not in self._model.key]
        return (*self._model.key, *rest)

    def page(self, view: CaseView) -> CasePage:
        """One page; the database searches, sorts and counts off."""
        size = max(1, min(view.page_rows, MAX_PAGE_ROWS))
        condition, parameters = self._search(view.search)
        first = (min(max(view.page, 1), _LAST_PAGE) - 1) * size
        # One more than is shown: whether there is a next page, without counting a table.
        statement = f"{self._select(condition)}{self._order(view)}{self._window(first, size + 1)}"
        rows = self._database.read(statement, batch_rows=size + 1, parameters=parameters).read_all()
        return CasePage(rows.select(list(self.columns)).slice(0, size), rows.num_rows > size)

    def sample(self) -> pa.Table:
        """Some cases, to know usual values from: the first `SAMPLE_ROWS` in the order of the key."""
        statement = f"{self._select('')}{self._order(CaseView())}{self._window(0, SAMPLE_ROWS)}"
        return self._database.read(statement, batch_rows=SAMPLE_ROWS).read_all()

    def chosen_query(self, keys: Sequence[Key]) -> tuple[str, list[Any]]:
        """The statement, and its parameters, that returns the cases with these keys."""
        if not keys:
            raise CaseError("no case was chosen; choose at least one")
        if len(keys) > MAX_CHOSEN:
            raise CaseError(f"{len(keys)} cases were chosen; the Showroom runs at most {MAX_CHOSEN} at once")
        columns = [self._column(name) for name in self._model.key]
        one = " AND ".join(f"{column} = ?" for column in columns)
        condition = " OR ".join([f"({one})"] * len(keys))
        parameters = [value for key in keys for value in self.typed_key(key)]
        return self._select(condition) + self._order(CaseView()), parameters

    def chosen(self, keys: Sequence[Key]) -> pa.RecordBatchReader:
        """The cases with these keys; raises `CaseError` where there are fewer."""
        statement, parameters = self.chosen_query(keys)
        rows = self._database.read(statement, batch_rows=MAX_CHOSEN, parameters=parameters).read_all()
        wanted = {self.typed_key(key) for key in keys}
        found = set(zip(*(rows.column(name).to_pylist() for name in self._model.key), strict=True))
        if len(found) < len(wanted):
            gone = ", ".join(_shown(key) for key in keys if self.typed_key(key) not in found)
            raise CaseError(
                f"models.{self._model.name}: of {len(wanted)} chosen cases {len(wanted) - len(found)} are "
                f"not (or no longer) among the cases: {gone}; load the list of cases again"
            )
        return rows.to_reader()

    def typed_key(self, key: Key) -> Key:
        """A key as a browser or JSON gives it, in the types of its columns."""
        names = self._model.key
        if len(key) != len(names):
            raise CaseError(
                f"models.{self._model.name}: a key has {len(names)} values ({', '.join(names)}), "
                f"found {len(key)}"
            )
        return tuple(
            None if value is None else typed_value(name, text_of(value), self.schema.field(name).type)
            for name, value in zip(names, key, strict=True)
        )

    def _select(self, condition: str) -> str:
        # The line break ends a comment that may stand at the query's end.
        where = f" WHERE {condition}" if condition else ""
        return f"SELECT * FROM (\n{self.query}\n) cases{where}"

    def _search(self, text: str) -> tuple[str, list[Any]]:
        if not text:
            return "", []
        kind = _AS_TEXT.get(self._database.dialect.name, "VARCHAR(4000)")
        pattern = text.replace("\0", "").encode("utf-8", "replace").decode()
        for sign in (_ESCAPE, "%", "_", "["):
            pattern = pattern.replace(sign, _ESCAPE + sign) if sign != "[" or self._is("mssql") else pattern
        names = self._model.showroom.search or self._model.key
        # The engine lowers both sides: each has its own idea of which letters have a lower case.
        sought = f"LIKE LOWER(CAST(? AS {kind})) ESCAPE '{_ESCAPE}'"
        tests = [f"LOWER(CAST({self._column(name)} AS {kind})) {sought}" for name in names]
        return f"({' OR '.join(tests)})", [f"%{pattern}%"] * len(tests)

    def _order(self, view: CaseView) -> str:
        direction = " DESC" if view.is_descending else ""
        first = [] if view.sort is None else [view.sort]
        rest = [name for name in self._model.key if name not in first]
        # The key decides between equals: without it a row could stand on two pages, or on none.
        order = [self._column(name) + direction for name in first] + [self._column(name) for name in rest]
        if view.sort is None and direction:
            order = [column + direction for column in order]
        return f" ORDER BY {', '.join(order)}"

    def _window(self, first: int, rows: int) -> str:
        if self._is("mysql", "postgresql", "sqlite"):
            return f" LIMIT {rows:d} OFFSET {first:d}"
        return f" OFFSET {first:d} ROWS FETCH NEXT {rows:d} ROWS ONLY"

    def _column(self, name: str) -> str:
        if name not in self.schema.names:
            raise CaseError(
                f"models.{self._model.name}.showroom: there is no column '{name}' among the cases; there are "
                f"{', '.join(self.schema.names)}"
            )
        return self._database.dialect.quote(name)

    def _is(self, *engines: str) -> bool:
        return self._database.dialect.name in engines


@contextlib.contextmanager
def open_cases(model: ModelConfig, deployment: Deployment) -> Iterator[Cases]:
    """The model's cases, by `showroom.cases` or, without one, its own query."""
    now = datetime.now(UTC)
    if model.showroom.cases:
        query = render(model.showroom.cases, model, moment=now, path="showroom.cases")
    else:
        query = render(model.source.query, model, moment=now)
    source = model.source
    database = deployment.database(source.connection, max_text_bytes=source.max_text_bytes)
    with contextlib.closing(database):
        yield Cases(model, database, query)


def typed_value(name: str, value: Any, kind: pa.DataType) -> Any:
    """What a browser or JSON gives for a column, as a value of its type; raises `CaseError`."""
    if value is None or not isinstance(value, str):
        return value
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    try:
        value.encode()  # half a surrogate pair is no text
        if types.is_integer(kind):
            return _int64(value)
        if types.is_floating(kind):
            return float(value)
        if types.is_decimal(kind):
            return Decimal(value)
        if types.is_boolean(kind):
            return {"true": True, "1": True, "false": False, "0": False}[value.strip().lower()]
        if types.is_timestamp(kind):
            moment = datetime.fromisoformat(value)
            return moment.replace(tzinfo=UTC) if kind.tz and moment.tzinfo is None else moment
        if types.is_date(kind):
            return date.fromisoformat(value)
        if types.is_time(kind):
            return time.fromisoformat(value)
        if types.is_binary(kind) or types.is_fixed_size_binary(kind) or types.is_large_binary(kind):
            return bytes.fromhex(value)
    except (ValueError, KeyError, InvalidOperation) as error:
        raise CaseError(f"column '{name}': '{value}' is no {kind}; correct the value") from error
    return value


def _int64(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError("no driver takes it as a parameter")
    return value


def text_of(value: Any) -> str:
    """A value as text that `typed_value` understands; '' for NULL."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case uuid.UUID():
            return str(value)
        case _:
            return str(value)


def _shown(key: Key) -> str:
    return " / ".join(text_of(value) for value in key)
