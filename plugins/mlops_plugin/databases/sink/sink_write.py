"""One dispatch's rows on their way into a table: what `writer` and `upsert` share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import pyarrow as pa

from mlops_plugin.config.schema import SinkConfig
from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.sink.dispatches_table import DispatchesTable
from mlops_plugin.databases.sink.predictions_table import SinkTable
from mlops_plugin.databases.sink.stored_rows import StoredRows
from mlops_plugin.databases.sink.write_request import WriteRequest, Written
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError, KeyColumnError, MlopsError, SinkError

_REFUSED_TWICE = re.compile(r"duplicate|unique", re.IGNORECASE)


@dataclass(frozen=True)
class SinkWrite:
    """Where one dispatch's rows go, and what every mode does with them.

    `number` is the dispatch's in a table of narrow rows. `dispatches` knows which rows of the table are
    newer; None if none is, or if that is not recorded. `is_again`: it is on record that an earlier try of
    the dispatch has written here.
    """

    database: Database
    request: WriteRequest
    place: SinkTable
    rows: StoredRows
    number: int = 0
    dispatches: DispatchesTable | None = None
    is_again: bool = False

    @property
    def sink(self) -> SinkConfig:
        return self.request.sink

    @property
    def key(self) -> tuple[str, ...]:
        return self.request.key

    @property
    def dispatch_id(self) -> str:
        return self.request.dispatch_id

    @property
    def engine(self) -> Engine:
        return self.database.engine

    @property
    def table_name(self) -> TableName:
        return self.place.name

    @property
    def table(self) -> str:
        """Quoted."""
        return self.table_name.quoted(self.engine)

    @property
    def folded_key(self) -> frozenset[str]:
        return frozenset(self.engine.fold(column) for column in self.key)

    @property
    def lookalikes(self) -> tuple[str, ...]:
        """The texts of the key that the table's collation may take for each other."""
        columns, schema, fold = self.place.columns, self.rows.schema, self.engine.fold
        return tuple(
            name
            for name in self.key
            if pa.types.is_string(schema.field(name).type) and not columns[fold(name)].compares_bytes
        )

    def quoted(self, columns: tuple[str, ...], of: str = "") -> list[str]:
        return [of + self.engine.quote(column) for column in columns]

    def own(self, alias: str = "") -> str:
        """The condition that a row is this dispatch's; its marks, if any, are `own_parameters`."""
        column = alias + self.engine.quote(self.place.owner)
        return f"{column} = {self.number:d}" if self.place.is_narrow else f"{column} = ?"

    @property
    def own_parameters(self) -> list[str]:
        return [] if self.place.is_narrow else [self.dispatch_id]

    def count(self, query: str) -> int:
        """What a query counts that asks for `own` rows."""
        return int(read_rows(self.database, query, self.own_parameters)[0][0])

    def insert(self, table: TableName) -> None:
        """Send all rows to the table, or to the temporary one that an upsert takes them from."""
        self.send(lambda: self.database.insert(table, self.rows.reader()))

    def send(self, rows: Callable[[], int]) -> None:
        """Call what sends all rows and returns how many; raises for what a driver cannot say as well."""
        try:
            inserted = rows()
        except MlopsError as error:
            if self.rows.refusal is not None and self.rows.refusal is not error:
                raise self.rows.refusal from error
            if isinstance(error, DatabaseError) and _REFUSED_TWICE.search(error.driver_says):
                raise KeyColumnError(self._twice(error.driver_says)) from error
            raise
        if inserted != self.rows.count:
            self._refuse_count(inserted)

    @contextmanager
    def leaving_others(self, ours: str, parameters: Sequence[str] = ()) -> Iterator[None]:
        """Raise `SinkError` if what is done within replaces rows that do not meet the condition `ours`."""
        if not self.engine.replaces_rows(self.database, self.table_name):
            yield
            return
        query = f"SELECT COUNT(*) AS others FROM {self.table} WHERE ({ours}) IS NOT TRUE"
        before = read_rows(self.database, query, parameters)
        yield
        if read_rows(self.database, query, parameters) != before:
            is_append = self.sink.mode == "append"
            must = f"include {self.place.owner}" if is_append else "not say ON CONFLICT REPLACE"
            raise SinkError(
                f"connection '{self.database.conn_id}': rows of this dispatch would replace others in "
                f"{self.sink.table}: its unique keys must {must} in mode {self.sink.mode}"
            )

    def refuse_kept(self) -> NoReturn:
        """Raise `SinkError`: rows that were to be replaced are still there."""
        raise SinkError(
            f"connection '{self.database.conn_id}': rows of {self.sink.table} that this dispatch replaces "
            "are still there; check for a trigger, a rule or a policy that keeps them, and for other writers"
        )

    def counted(self, mode: Callable[[SinkWrite], int | Written]) -> Written:
        """What a mode has persisted; raises `SinkError` if that is not what was sent."""
        found = mode(self)
        written = Written(found) if isinstance(found, int) else found
        arrived = written.persisted + written.superseded
        if arrived != self.rows.count:
            self._refuse_count(arrived)
        return written

    def _refuse_count(self, found: int) -> None:
        raise SinkError(
            f"connection '{self.database.conn_id}': {self.rows.count} rows were sent to {self.sink.table}, "
            f"but {found} arrived; check for a trigger, a rule, or a collation that treats two keys as equal"
        )

    def repeated(self, sample: str, times: int) -> KeyColumnError:
        """The error of a dispatch in which the key `sample` occurs several times."""
        return KeyColumnError(self._twice(f"{sample} occurs {times} times"))

    def _twice(self, found: str) -> str:
        own = f" and its unique key must include {self.place.owner}" if self.sink.mode == "append" else ""
        key = ", ".join(self.key)
        return (
            f"connection '{self.database.conn_id}': {self.sink.table} would hold a key ({key}) twice: "
            f"{found}; each key must occur once per dispatch{own}"
        )

    def refuse_duplicates(self, table: str, condition: str = "1 = 1") -> None:
        """Raise `KeyColumnError` with a sample if rows of a table share their key."""
        key = ", ".join(self.quoted(self.key))
        # As text: the user's column may have a type that no Arrow type holds, a NUMERIC without digits.
        texts = ", ".join(
            f"{self.engine.exact_text(column)} AS k{number}"
            for number, column in enumerate(self.quoted(self.key))
        )
        query = (
            f"SELECT {texts}, COUNT(*) AS times FROM {table} WHERE {condition} GROUP BY {key}"
            f" HAVING COUNT(*) > 1 {self.engine.any_rows(1)}"
        )
        parameters = self.own_parameters if condition == self.own() else []
        for *values, times in read_rows(self.database, query, parameters):
            sample = ", ".join(f"{name} = {value}" for name, value in zip(self.key, values, strict=True))
            raise self.repeated(sample, times)
