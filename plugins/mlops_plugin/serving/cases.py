"""The cases of a model: rows that a person can pick, found, sorted and paged by the database.

The model's query becomes a subquery of ours, so no more than a page travels. Values are parameters and
names are quoted; what a browser sends is compared with the query's columns before it becomes SQL.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from mlops_plugin.arrow_values import holds_labels
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.sql_text import mark
from mlops_plugin.errors import CaseError, KeyColumnError
from mlops_plugin.orchestration.rendering import render
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.reading.query_failure import query_errors
from mlops_plugin.serving.case_paging import PLACE, PLACE_VALUE, CaseOrder, Key, Place
from mlops_plugin.serving.case_values import is_same_value, parameter_of, shown_value, text_of, typed_value

MAX_PAGE_ROWS = 200
MAX_CHOSEN = 200
MOST_ROWS = 1000  # with the keys of chosen cases; a key that tells rows apart has as many as are chosen
SAMPLE_ROWS = 500
_ESCAPE = "!"
MOST_COUNTED = 10_000
SERVER_SHARE = 0.9  # of the time that this side waits for a statement


@dataclass(frozen=True)
class CaseView:
    """What a person wants to see: by `sort`, a column, or the key; without a `place` the first page."""

    search: str = ""
    sort: str | None = None
    is_descending: bool = False
    place: Place | None = None
    page_rows: int = 25


@dataclass(frozen=True)
class CasePage:
    """Rows of one page, key columns first, with the type that each column arrived in."""

    rows: pa.Table
    previous: Place | None
    next: Place | None


class Cases:
    """The cases of one model, over an open database; used by one thread, and closed by `open_cases`."""

    def __init__(self, model: ModelConfig, database: Database, query: str) -> None:
        self._model = model
        self._database = database
        self.query = query.strip().rstrip(";")
        with query_errors(model, self.query, "showroom.cases" if model.showroom.cases else "source.query"):
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
        """One page; the database searches, sorts and skips to its first row."""
        size, place = max(1, min(view.page_rows, MAX_PAGE_ROWS)), view.place
        is_backwards = place is not None and place.is_backwards
        rows = self._rows(view, size + 1)  # one more than is shown: is there a further page?
        has_more, rows = rows.num_rows > size, rows.slice(0, size)
        if has_more and self._order(view).by_value is None and self._has_texts:
            has_more, rows = self._with_equals(view, rows)
        if is_backwards:
            if not has_more:
                return self.page(replace(view, place=None))
            rows = rows.take(list(range(rows.num_rows - 1, -1, -1)))
        first = last = None
        if rows.num_rows and place is not None:
            first = replace(self._place(view, rows.slice(0, 1)), is_backwards=True)
        if rows.num_rows and (has_more or is_backwards):
            last = self._place(view, rows.slice(rows.num_rows - 1))
        return CasePage(rows.select(list(self.columns)), first, last)

    @property
    def _has_texts(self) -> bool:
        """Whether a collation may take one key for another."""
        return any(pa.types.is_string(self.schema.field(name).type) for name in self._model.key)

    def _with_equals(self, view: CaseView, rows: pa.Table) -> tuple[bool, pa.Table]:
        """Whether more follow, and the rows with all cases that a collation takes for the last one.

        Those lie neither before nor behind it: no other page would have them.
        """
        last = rows.slice(rows.num_rows - 1)
        place = replace(
            self._place(view, last), is_backwards=view.place is not None and view.place.is_backwards
        )
        found, parameters = self._found(view.search)
        condition, values = self._has_key(self.typed_key(place.key))
        statement = f"{self._select(f'{found} AND {condition}')}{self._order(view).clause()}"
        parameters = [*parameters, *values]
        query = f"{statement}{self._first(MOST_ROWS)}"
        equals = self._database.read(query, batch_rows=MOST_ROWS, parameters=parameters).read_all()
        if equals.num_rows < 2:
            return True, rows
        keys = {*self._keys(equals)}
        others = rows.filter(pa.array([key not in keys for key in self._keys(rows)], pa.bool_()))
        more = self._rows(replace(view, place=place), 1).num_rows > 0
        return more, pa.concat_tables([others, equals])

    def _keys(self, rows: pa.Table) -> list[Key]:
        return list(zip(*(rows.column(name).to_pylist() for name in self._model.key), strict=True))

    def count(self, search: str) -> int:
        """How many cases there are, as the pages find them; `MOST_COUNTED` + 1 stands for more."""
        condition, parameters = self._found(search)
        some = self._select(condition, columns=self._column(self._model.key[0]))
        limited = f"{some} {self._database.engine.any_rows(MOST_COUNTED + 1)}"
        statement = f"SELECT COUNT(*) AS counted FROM (\n{limited}\n) some_cases"
        return int(read_rows(self._database, statement, parameters)[0][0])

    def _rows(self, view: CaseView, count: int) -> pa.Table:
        order = self._order(view)
        tables, condition, parameters = "", *self._found(view.search)
        if view.place is not None:
            place = replace(view.place, key=self.typed_key(view.place.key))
            behind, values = order.behind(place)
            condition = f"{condition} AND {behind}"
            if order.by_value and not place.is_null:
                tables, found = self._value_at(place.key, order.by_value)
                parameters = [*found, *parameters]
            parameters = [*parameters, *values]
        is_backwards = view.place is not None and view.place.is_backwards
        ordered = order.clause(is_backwards=is_backwards) + self._first(count)
        statement = f"{self._select(condition, tables)}{ordered}"
        return self._database.read(statement, batch_rows=count, parameters=parameters).read_all()

    def _value_at(self, key: Key, column: str) -> tuple[str, list[Any]]:
        """A table of one row: the value of `column` in the case with this key. No row if the case is gone."""
        condition, parameters = self._has_key(key)
        order = self._order(CaseView()).clause()
        wanted = self._select(condition, columns=f"{column} AS {PLACE_VALUE}")
        return f", ({wanted}{order}{self._first(1)}) {PLACE}", parameters

    def _place(self, view: CaseView, row: pa.Table) -> Place:
        key = tuple(row.column(name)[0].as_py() for name in self._model.key)
        return Place(key, is_null=view.sort is not None and not row.column(view.sort)[0].is_valid)

    def sample(self) -> pa.Table:
        """Some cases, to know usual values from: the first `SAMPLE_ROWS` in the order of the key."""
        statement = f"{self._select('')}{self._order(CaseView()).clause()}{self._first(SAMPLE_ROWS)}"
        return self._database.read(statement, batch_rows=SAMPLE_ROWS).read_all()

    def chosen_query(self, keys: Sequence[Key]) -> tuple[str, list[Any]]:
        """The statement, and its parameters, that returns the cases with these keys."""
        if not keys:
            raise CaseError("no case was chosen; choose at least one")
        if len(keys) > MAX_CHOSEN:
            raise CaseError(f"{len(keys)} cases were chosen; the Showroom runs at most {MAX_CHOSEN} at once")
        found = [self._has_key(self.typed_key(key)) for key in keys]
        condition = " OR ".join(f"({one})" for one, _ in found)
        parameters = [value for _, values in found for value in values]
        ordered = self._order(CaseView()).clause() + self._first(MOST_ROWS + 1)
        return self._select(condition) + ordered, parameters

    def chosen(self, keys: Sequence[Key]) -> pa.RecordBatchReader:
        """The cases with these keys; raises `CaseError` if one has none, or if they have very many rows."""
        statement, parameters = self.chosen_query(keys)
        rows = self._database.read(statement, batch_rows=MAX_CHOSEN, parameters=parameters).read_all()
        if rows.num_rows > MOST_ROWS:
            raise CaseError(
                f"models.{self._model.name}: more than {MOST_ROWS} rows have the keys of the chosen cases; "
                "the key must tell cases apart"
            )
        of_rows = self._keys(rows)
        present, found, gone = set(of_rows), set[Key](), list[Key]()
        wanted = {self.typed_key(key): key for key in keys}
        for typed, key in wanted.items():
            # What a collation takes for a case that is gone is another case.
            same = {typed} & present or {one for one in present if self._is_same(typed, one)}
            found |= same
            if not same:
                gone.append(key)
        if gone:
            raise CaseError(
                f"models.{self._model.name}: of {len(wanted)} chosen cases {len(gone)} are "
                f"not among the cases, or no longer: {', '.join(map(_shown, gone))}; reload the list of cases"
            )
        return rows.filter(pa.array([key in found for key in of_rows], pa.bool_())).to_reader()

    def _is_same(self, asked: Key, found: Key) -> bool:
        are_padded = not self._database.engine.trims_char
        return all(
            is_same_value(one, other, is_padded=are_padded) for one, other in zip(asked, found, strict=True)
        )

    def typed_key(self, key: Key) -> Key:
        """A key as a browser or JSON gives it, as a parameter of its columns' types."""
        names = self._model.key
        if len(key) != len(names):
            raise CaseError(
                f"models.{self._model.name}: a key has {len(names)} values ({', '.join(names)}), "
                f"found {len(key)}"
            )
        return tuple(
            None
            if value is None
            else parameter_of(typed_value(name, text_of(value), self.schema.field(name).type))
            for name, value in zip(names, key, strict=True)
        )

    def _has_key(self, key: Key) -> tuple[str, list[Any]]:
        return " AND ".join(f"{self._column(name)} = ?" for name in self._model.key), list(key)

    def _select(self, condition: str, tables: str = "", columns: str = "cases.*") -> str:
        # The line break ends a comment at the query's end.
        where = f" WHERE {mark(condition)}" if condition else ""
        return f"SELECT {columns} FROM (\n{self.query}\n) cases{tables}{where}"

    def _found(self, search: str) -> tuple[str, list[Any]]:
        """The condition of the cases that a search finds; of all without one."""
        condition, parameters = self._search(search)
        # A row without a key is no case: nobody can choose it, and no page could begin after it.
        present = [f"{self._column(name)} IS NOT NULL" for name in self._model.key]
        return " AND ".join([*present, *([condition] if condition else [])]), parameters

    def _search(self, text: str) -> tuple[str, list[Any]]:
        if not text:
            return "", []
        engine = self._database.engine
        pattern = text.replace("\0", "").encode("utf-8", "replace").decode()
        for sign in _ESCAPE + engine.like_wildcards:
            pattern = pattern.replace(sign, _ESCAPE + sign)
        names = self._model.showroom.search or self._model.key
        # The engine lowers both sides: each has its own idea of which letters have a lower case.
        sought = f"LIKE LOWER({engine.as_text('?')}) ESCAPE '{_ESCAPE}'"
        tests = [f"LOWER({engine.as_text(self._column(name))}) {sought}" for name in names]
        parameters: list[Any] = [f"%{pattern}%"] * len(tests)
        for name in names:
            if (value := shown_value(name, text, self.schema.field(name).type)) is not None:
                tests.append(f"{self._column(name)} = ?")
                parameters.append(value)
        return f"({' OR '.join(tests)})", parameters

    def _order(self, view: CaseView) -> CaseOrder:
        if view.sort is not None:
            self._column(view.sort)  # it must exist
        labels = frozenset(field.name for field in self.schema if holds_labels(field))
        return CaseOrder(self._database.engine, self._model.key, view.sort, view.is_descending, labels)

    def _first(self, rows: int) -> str:
        return f" {self._database.engine.limit(rows)}"

    def _column(self, name: str) -> str:
        if name not in self.schema.names:
            raise CaseError(
                f"models.{self._model.name}.showroom: there is no column '{name}' among the cases; there are "
                f"{', '.join(self.schema.names)}"
            )
        return f"cases.{self._database.engine.quote(name)}"


@contextlib.contextmanager
def open_cases(model: ModelConfig, deployment: Deployment) -> Iterator[Cases]:
    """The model's cases, by `showroom.cases` or, without one, its own query."""
    now = datetime.now(UTC)
    if model.showroom.cases:
        query = render(model.showroom.cases, model, moment=now, path="showroom.cases")
    else:
        query = render(model.source.query, model, moment=now)
    database = deployment.source(model)
    with contextlib.closing(database):
        # The server stops first: when only this side gives up, the query goes on there.
        database.engine.limit_statements(database, SERVER_SHARE * deployment.limits.statement_s)
        yield Cases(model, database, query)


def _shown(key: Key) -> str:
    return " / ".join(text_of(value) for value in key)
