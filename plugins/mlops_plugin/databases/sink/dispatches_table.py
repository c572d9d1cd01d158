"""Table `mlops_dispatches` beside the sink: which dispatches wrote into a table, and which of two counts.

`writer` reads it under the sink's lock and writes it in the sink's transaction, so it is always true
about the rows. A row of the sink leads here by its `dispatch_id`, a narrow one by the number `id`; rows whose
dispatch is not here are older than all others.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa

from mlops_plugin.config.schema import SinkConfig
from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.sink.write_request import Order, Registration
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError, SinkError, StaleTry

_log = logging.getLogger(__name__)

NAME = "mlops_dispatches"
_TEXT, _NUMBER, _FLAG = pa.string(), pa.int64(), pa.int8()
# Times are UTC, as text: it sorts, and each engine and each driver takes it alike.
_COLUMNS = {
    "sink_table": _TEXT,  # without its schema
    "dispatch_id": _TEXT,
    "id": _NUMBER,  # counts from 1; a dispatch may have several, one for each try (`narrow_rows`)
    "number": _NUMBER,
    "interval_end": _TEXT,
    "model": _TEXT,
    "artifact_sha256": _TEXT,
    "predicted_at": _TEXT,
    "mode": _TEXT,
    "is_forced": _FLAG,
    "written_at": _TEXT,
    "answered_by": _TEXT,  # a hash of what decides answers, of models with `skip_predicted`
}
_NULLABLE = {"interval_end", "answered_by"}
_ADDED = ("answered_by",)  # tables of an earlier version lack it
_ASKED_AT_ONCE = 500  # dispatches; engines limit a statement's parameters
# What an error says if a right is missing; MySQL says so of a table that does not exist, too.
NO_RIGHT = re.compile(r"denied|permission|privilege", re.IGNORECASE)
_KEYS = (
    ("sink_table", "id"),
    ("sink_table", "dispatch_id", "id"),
    ("sink_table", "number", "dispatch_id", "id"),
)
ONE_ENTRY_KEY = ("sink_table", "dispatch_id")  # unique in tables of an earlier version


@dataclass(frozen=True)
class Standing:
    """A dispatch among those that wrote into its table; `newer`: how many of them count before it.

    `own_id` is the `id` of its latest try, `last_id` that of any; 0 for none. `other_model`: the one that was
    the last to write the table, None if that was this one.
    """

    last_id: int
    own_id: int
    newer: int
    other_model: str | None = None

    @property
    def is_registered(self) -> bool:
        return self.own_id > 0

    @property
    def id(self) -> int:
        """The number under which it replaces what earlier tries have left."""
        return self.own_id or self.last_id + 1


@dataclass(frozen=True)
class DispatchesTable:
    """The dispatches of one sink table."""

    database: Database
    sink: SinkConfig

    @property
    def table(self) -> TableName:
        """In the sink table's own schema."""
        return replace(TableName.parse(self.sink.table), name=NAME)

    @property
    def name(self) -> str:
        """Quoted."""
        return self.table.quoted(self.database.engine)

    @property
    def sink_table(self) -> str:
        """What the table calls the sink's table: as the engine compares names, without the schema."""
        return self.database.engine.fold_table(TableName.parse(self.sink.table).name)

    def ensure(self) -> bool:
        """Create the table if it is missing; False if that is not allowed, which is logged.

        Commits. Raises `SinkError` for a table of that name with other columns, `DatabaseError` if the
        database refuses for another reason than a missing right.
        """
        try:
            if self.exists():
                return True
            cause = "create: false"
            if self.sink.create:
                self._create()
                return True
        except DatabaseError as error:
            if not NO_RIGHT.search(error.driver_says):
                raise
            cause = error.driver_says
            self.database.rollback()
        _log.warning("%s (%s)", self.missing(), cause)
        return False

    def check(self) -> None:
        """Raise `SinkError` if the table is missing and no dispatch would create it."""
        try:
            if self.exists() or self.sink.create:
                return
        except DatabaseError as error:
            if not NO_RIGHT.search(error.driver_says):
                raise
            raise SinkError(f"{self.missing()}\n({error.driver_says})") from error
        raise SinkError(self.missing())

    def _create(self) -> None:
        self.database.commit()  # SQLite: a transaction that has read cannot wait for its turn to write
        try:
            self.database.execute(self.create_statement())
            self.database.commit()
        except DatabaseError:
            self.database.rollback()
            if not self.exists():  # another dispatch may have created it at the same moment
                raise

    def missing(self) -> str:
        """What it means that the table is missing, and what to do."""
        return (
            f"connection '{self.database.conn_id}': there is no table {NAME} next to {self.sink.table}: an "
            "older dispatch that ends late can replace newer predictions, or release rows that were "
            "rejected later; create it:\n"
            f"{self.create_statement()}"
        )

    def exists(self) -> bool:
        """Whether the table is there. Raises `SinkError` if it lacks columns."""
        engine = self.database.engine
        found = self.database.columns(self.table)
        if found is None:
            return False
        known = set(map(engine.fold, found))
        missing = [name for name in _COLUMNS if name not in _ADDED and engine.fold(name) not in known]
        if missing:
            names = ", ".join(f"'{name}'" for name in missing)
            raise SinkError(
                f"connection '{self.database.conn_id}': table {self.name} has no column {names}; drop the "
                f"table and create it again:\n{self.create_statement()}"
            )
        return True

    def has_answered_by(self) -> bool:
        """Whether the table is there and has the column `answered_by`."""
        fold = self.database.engine.fold
        return fold("answered_by") in map(fold, self.database.columns(self.table) or ())

    def ensure_answered_by(self) -> bool:
        """Add the column `answered_by` to a table of an earlier version; False if it cannot, which is logged.

        Commits. Without it, what other settings of the model have predicted counts as predicted.
        """
        if self.has_answered_by():
            return True
        engine = self.database.engine
        kind = engine.column_type(_TEXT, is_key=True)
        statement = f"ALTER TABLE {self.name} ADD {engine.quote('answered_by')} {kind}"
        cause = "create: false"
        if self.sink.create:
            self.database.commit()
            try:
                self.database.execute(statement)
                self.database.commit()
            except DatabaseError as error:
                self.database.rollback()
                cause = error.driver_says
            if self.has_answered_by():  # another dispatch may have added it at the same moment
                return True
        _log.warning(
            "connection '%s': table %s has no column 'answered_by', so `skip_predicted` cannot tell "
            "predictions by an earlier signature, `classes` or environment; add it: %s (%s)",
            self.database.conn_id,
            self.name,
            statement,
            cause,
        )
        return False

    def create_statement(self) -> str:
        engine = self.database.engine
        lines = [
            f"{engine.quote(name)} {engine.column_type(kind, is_key=True)}"
            f"{'' if name in _NULLABLE else ' NOT NULL'}"
            for name, kind in _COLUMNS.items()
        ]
        for number, key in enumerate(_KEYS):
            columns = ", ".join(map(engine.quote, key))
            lines.append(f"{'UNIQUE' if number else 'PRIMARY KEY'} ({columns})")
        body = ",\n  ".join(lines)
        return f"CREATE TABLE {self.name} (\n  {body}\n){engine.table_options}"

    def compare(self, dispatch_id: str, registration: Registration) -> Standing:
        """Compare a dispatch with those that are registered; ask under the sink's lock.

        Raises `StaleTry` if a try of the same dispatch that read its source later has written already.
        """
        quote = self.database.engine.quote
        sink_table, owner, identity, number = map(quote, ("sink_table", "dispatch_id", "id", "number"))
        of_table = f"FROM {self.name} WHERE {sink_table} = ?"
        model, of_last = quote("model"), f"{of_table} AND {identity} = (SELECT MAX({identity}) {of_table})"
        own = f"{of_table} AND {owner} = ?"
        # The last line gives one row, also in engines that want a FROM in every query.
        query = (
            f"SELECT COALESCE((SELECT MAX({identity}) {of_table}), 0) AS last_id,"
            f" COALESCE((SELECT MAX({identity}) {own}), 0) AS own_id,"
            f" COALESCE((SELECT MAX({number}) {own}), 0) AS own_number,"
            f" (SELECT COUNT(*) {of_table} AND {newer(self.database.engine, registration.order)}) AS newer,"
            f" (SELECT COUNT(*) {of_last} AND {model} <> ?) AS written_by_others"
            f" FROM (SELECT COUNT(*) AS counted FROM {self.name} WHERE 1 = 0) one_row"
        )
        table, mine = self.sink_table, (self.sink_table, dispatch_id)
        asked = [table, *mine, *mine, table, table, table, registration.model]
        found = read_rows(self.database, query, asked)[0]
        last_id, own_id, own_number, newer_ones, others = map(int, found)
        if own_id and own_number > registration.order.number:
            raise StaleTry(
                f"connection '{self.database.conn_id}': another try of this dispatch, which read its source "
                f"later, has already written to {self.sink.table}; this try writes nothing"
            )
        count = 0 if registration.is_forced else newer_ones
        other_model = None
        if others:
            ((other_model,),) = read_rows(self.database, f"SELECT {model} {of_last}", [table, table])
        return Standing(last_id, own_id, count, other_model)

    def ids(self, dispatch_id: str) -> list[int]:
        """The numbers of all tries of a dispatch that are registered."""
        table, owner, identity = map(self.database.engine.quote, ("sink_table", "dispatch_id", "id"))
        query = f"SELECT {identity} FROM {self.name} WHERE {table} = ? AND {owner} = ?"
        return [int(found) for (found,) in read_rows(self.database, query, [self.sink_table, dispatch_id])]

    def forget(self, numbers: Collection[int]) -> None:
        """Remove tries whose rows are replaced.

        By the primary key: by the dispatch's id, MySQL would lock the gaps beside it, into which another
        table's dispatch may insert.
        """
        if numbers:
            table, identity = map(self.database.engine.quote, ("sink_table", "id"))
            listed = ", ".join(map(str, numbers))
            self.database.execute(
                f"DELETE FROM {self.name} WHERE {table} = ? AND {identity} IN ({listed})", [self.sink_table]
            )

    def register(self, dispatch_id: str, registration: Registration, number: int) -> None:
        """Record that a dispatch writes under a number (`id`); the caller commits."""
        order = registration.order
        values: dict[str, str | int | None] = {
            "sink_table": self.sink_table,
            "dispatch_id": dispatch_id,
            "id": number,
            "number": order.number,
            "interval_end": None if order.interval_end is None else _text(order.interval_end),
            "model": registration.model,
            "artifact_sha256": registration.artifact_sha256,
            "predicted_at": _text(registration.predicted_at),
            "mode": self.sink.mode,
            "is_forced": int(registration.is_forced),
            "written_at": _text(datetime.now(UTC)),
        }
        if registration.answered_by is not None:  # else the column may not be there
            values["answered_by"] = registration.answered_by
        # Numbers stand in the statement: a driver may take every parameter for a text. And not as Arrow rows,
        # as predictions are: to make those of Python's values loads pandas, half a second of `persist`.
        marks = ", ".join(
            "NULL" if v is None else str(v) if isinstance(v, int) else "?" for v in values.values()
        )
        columns = ", ".join(map(self.database.engine.quote, values))
        self.database.execute(
            f"INSERT INTO {self.name} ({columns}) VALUES ({marks})",
            [value for value in values.values() if isinstance(value, str)],
        )

    def has_newer(self, order: Order) -> bool:
        """Whether a dispatch is registered that counts before one of this order."""
        table, is_newer = self.database.engine.quote("sink_table"), newer(self.database.engine, order)
        query = f"SELECT COUNT(*) AS newer FROM {self.name} WHERE {table} = ? AND {is_newer}"
        return bool(int(read_rows(self.database, query, [self.sink_table])[0][0]))

    def find_newer(self, dispatch_ids: Collection[str], order: Order) -> dict[str, bool]:
        """Of some dispatches, those that are registered, and whether each counts before `order`."""
        wanted = sorted(dispatch_ids)
        found: dict[str, bool] = {}
        table, owner = map(self.database.engine.quote, ("sink_table", "dispatch_id"))
        is_newer = f"CASE WHEN {newer(self.database.engine, order)} THEN 1 ELSE 0 END"
        for start in range(0, len(wanted), _ASKED_AT_ONCE):
            some = wanted[start : start + _ASKED_AT_ONCE]
            rows = read_rows(
                self.database,
                f"SELECT {owner}, {is_newer} AS is_newer"
                f" FROM {self.name} WHERE {table} = ? AND {owner} IN ({', '.join('?' * len(some))})",
                [self.sink_table, *some],
            )
            for dispatch_id, counts_before in rows:
                found[str(dispatch_id)] = found.get(str(dispatch_id), False) or bool(int(counts_before))
        return found

    def forget_others(self, dispatch_id: str) -> None:
        """Remove the dispatches whose rows mode replace has taken out, all but this one.

        After `register`: MySQL locks the gap behind the last row that this deletes.
        """
        quote = self.database.engine.quote
        self.database.execute(
            f"DELETE FROM {self.name} WHERE {quote('sink_table')} = ? AND {quote('dispatch_id')} <> ?",
            [self.sink_table, dispatch_id],
        )

    def same_dispatch(self, number: str | None) -> str:
        """The condition that `d`, an entry, is that of `t`, a row; `number`: the narrow row's column."""
        engine = self.database.engine
        if number is not None:
            return f"d.{engine.quote('id')} = t.{engine.quote(number)}"
        owner = engine.quote("dispatch_id")
        return f"d.{owner} = {engine.as_text(f't.{owner}')}"  # the user's column may be a UUID

    def delete_superseded(
        self, stage: str, key_equals: str, sink: str, order: Order, same_dispatch: str
    ) -> None:
        """Delete from the (quoted) `stage` the rows whose key has a row of a newer dispatch in `sink`.

        `key_equals` compares the key of the stage with that of alias `t`, the sink, `same_dispatch` is
        that of `t`.
        """
        engine = self.database.engine
        table = engine.quote("sink_table")
        self.database.execute(
            f"DELETE FROM {stage} WHERE EXISTS (SELECT 1 FROM {sink} t JOIN {self.name} d ON {same_dispatch}"
            f" WHERE {key_equals} AND d.{table} = ? AND {newer(engine, order, 'd.')})",
            [self.sink_table],
        )


def newer(engine: Engine, order: Order, alias: str = "") -> str:
    """The condition that a registered dispatch counts before one of this order.

    Of two that have an interval the one with the later end counts; otherwise the one that read its source
    later.
    """
    number, end = (alias + engine.quote(column) for column in ("number", "interval_end"))
    later = f"{number} > {order.number:d}"
    if order.interval_end is None:
        return later
    text = _text(order.interval_end)
    return f"({end} > '{text}' OR (({end} IS NULL OR {end} = '{text}') AND {later}))"


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
