"""The table of rejected rows: `persist` writes to it, a dispatch over quarantined keys reads from it.

A record is one violation that one dispatch found. When a dispatch over the quarantine has predicted its key,
the record stays and names that dispatch in `released_by`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.database import Database, read_rows
from mlops_plugin.databases.sink.dispatches_table import DispatchesTable
from mlops_plugin.databases.sink.write_request import Order, Registration, WriteRequest
from mlops_plugin.databases.sink.writer import alone_in, write_predictions
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.reading.answering import beside_artifact
from mlops_plugin.pipeline.staging.shelf import unchecked
from mlops_plugin.pipeline.validation.baseline import Baseline
from mlops_plugin.pipeline.validation.rejections import RejectedRows, key_texts
from mlops_plugin.pipeline.writing.provenance import stored_time

RECORD_NUMBER = "record_number"  # counts from 1 in each dispatch
_COPIED = ("column_name", "reason", "value")
_ADDED = (
    pa.field("key_text", pa.string(), nullable=False),  # the key as `rejections.key_texts` serializes it
    pa.field("dispatch_id", pa.string(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("quarantined_at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("released_by", pa.string()),
    pa.field("judged_by", pa.string()),  # see `judgement`; NULL if the dispatch failed for its threshold
)
_RELEASED_AT_ONCE = 500
_EXAMPLES_AMONG = 10_000  # records
_BATCH_ROWS = 50_000


def quarantine_schema(key: Sequence[pa.Field]) -> pa.Schema:
    """The columns of a quarantine table."""
    copied = [pa.field(name, pa.string()) for name in _COPIED]
    return pa.schema([*key, pa.field(RECORD_NUMBER, pa.int64(), nullable=False), *copied, *_ADDED])


@dataclass(frozen=True)
class Example:
    """One rejected row: its key and the value that was refused, both as text."""

    key: str
    value: str | None


class Quarantine:
    """The quarantine of one model, as one dispatch uses it."""

    def __init__(
        self,
        model: ModelConfig,
        dispatch_id: str,
        deployment: Deployment,
        check: Callable[[], None] = unchecked,
    ) -> None:
        self._model = model
        self._dispatch_id = dispatch_id
        self._deployment = deployment
        self._check = check
        self._sink = model.quarantine_sink

    def write(self, rejected: RejectedRows) -> None:
        """Store the dispatch's records in place of those of an earlier try, in one transaction.

        A key that a dispatch released which read its source later is released here, too. Raises the same
        errors as `databases.sink.writer.write_predictions`.
        """
        released: dict[str, str] = {}

        def find_released(database: Database) -> None:
            released.update(self._released(database, rejected))

        with self._open() as database:
            if not rejected.rows and not self._exists(database):
                return  # nothing to store, and nothing that an earlier try could have left
            request = WriteRequest(
                self._sink,
                (RECORD_NUMBER,),
                self._dispatch_id,
                registration=Registration(
                    rejected.order, self._model.name, rejected.artifact_sha256, rejected.at
                ),
                prepare=find_released,
                check=self._check,
            )
            write_predictions(database, request, self._completed(rejected, released))

    def _released(self, database: Database, rejected: RejectedRows) -> dict[str, str]:
        """The keys that dispatches have released which read later, and who.

        A key that this dispatch has collected again after that is judged again.
        """
        found = self._released_by_newer(database, rejected)
        quote = database.engine.quote
        text = database.engine.exact_text(quote("quarantined_at"))  # a driver may not read times
        query = (
            f"SELECT {quote('key_text')}, {quote('released_by')}, {text} AS made_at"
            f" FROM {self._table(database)}"
            f" WHERE {quote('dispatch_id')} = ? AND {quote('released_by')} IS NOT NULL"
        )
        records = read_rows(database, query, [self._dispatch_id])
        is_newer = self._find_newer(database, {str(by) for _, by, _ in records}, rejected.order)
        for key_text, by, at in records:
            stays = is_newer.get(str(by))
            if stays if stays is not None else _was_since(at, rejected.collected_at):
                found[str(key_text)] = str(by)
        return found

    def _released_by_newer(self, database: Database, rejected: RejectedRows) -> dict[str, str]:
        """The same, of the records of all dispatches: those that released them did not find ours yet."""
        dispatches = DispatchesTable(database, self._sink)
        if not (rejected.rows and dispatches.exists() and dispatches.has_newer(rejected.order)):
            return {}
        key_text, model, by = map(database.engine.quote, ("key_text", "model", "released_by"))
        of_model = f"FROM {self._table(database)} WHERE {model} = ?"
        query = f"SELECT DISTINCT {by} {of_model} AND {by} IS NOT NULL"
        releasing = {str(name) for (name,) in read_rows(database, query, [self._model.name])}
        is_newer = self._find_newer(database, releasing, rejected.order)
        found: dict[str, str] = {}
        for name in sorted(name for name, counts_before in is_newer.items() if counts_before):
            query = f"SELECT {key_text} {of_model} AND {by} = ?"
            for (text,) in read_rows(database, query, [self._model.name, name]):
                found[str(text)] = name
        return found

    def _find_newer(self, database: Database, dispatch_ids: Collection[str], order: Order) -> dict[str, bool]:
        """Of dispatches of the quarantine, those that it knows the order of, and whether each is newer."""
        dispatches = DispatchesTable(database, self._sink)
        return dispatches.find_newer(dispatch_ids, order) if dispatch_ids and dispatches.exists() else {}

    def keys(self) -> pa.StringArray:
        """The keys, as text, that are in quarantine or that this dispatch itself has released.

        The latter, because a dispatch that is cleared and runs again must find its own rows again.
        """
        with self._open() as database:
            if not self._exists(database):
                return pa.array([], pa.string())
            released = database.engine.quote("released_by")
            return self._key_texts(
                database, f"{released} IS NULL OR {released} = ?", [self._model.name, self._dispatch_id]
            )

    def keys_judged_by(self, judged_by: str) -> pa.StringArray:
        """The keys, as text, that other dispatches have put into quarantine by this judgement.

        Not its own: a dispatch that is cleared and runs again must read its own rows again.
        """
        with self._open() as database:
            known = database.columns(TableName.parse(self._sink.table)) or ()
            if database.engine.fold("judged_by") not in map(database.engine.fold, known):
                return pa.array([], pa.string())
            released, judged, owner = map(database.engine.quote, ("released_by", "judged_by", "dispatch_id"))
            return self._key_texts(
                database,
                f"{released} IS NULL AND {judged} = ? AND {owner} <> ?",
                [self._model.name, judged_by, self._dispatch_id],
            )

    def _key_texts(self, database: Database, condition: str, parameters: list[str]) -> pa.StringArray:
        quote = database.engine.quote
        reader = database.read(
            f"SELECT {quote('key_text')} FROM {self._table(database)} WHERE {quote('model')} = ?"
            f" AND ({condition})",
            batch_rows=_BATCH_ROWS,
            parameters=parameters,
        )
        # Not DISTINCT: a collation may treat two keys as one.
        return reader.read_all().column(0).cast(pa.string()).unique()

    def examples(self) -> dict[tuple[str | None, str], Example]:
        """For each column and reason among the dispatch's first records, the first one."""
        found: dict[tuple[str | None, str], Example] = {}
        with self._open() as database:
            if not self._exists(database):
                return found
            quote = database.engine.quote
            columns = ", ".join(map(quote, ("column_name", "reason", "key_text", "value")))
            rows = read_rows(
                database,
                f"SELECT {columns} FROM {self._table(database)} WHERE {quote('dispatch_id')} = ?"
                f" AND {quote(RECORD_NUMBER)} <= {_EXAMPLES_AMONG} ORDER BY {quote(RECORD_NUMBER)}",
                [self._dispatch_id],
            )
        for column, reason, key, value in rows:
            found.setdefault((column, reason), Example(key, value))
        return found

    def release(self, predicted: pa.RecordBatchReader, order: Order) -> int:
        """Mark the records of other dispatches whose keys were predicted; returns how many.

        `order` is that of the predictions. What a dispatch has rejected that read its source later stays.
        """
        key = self._model.key
        known = pa.chunked_array([key_texts(batch, key) for batch in predicted], pa.string())
        with self._open() as database:
            if not len(known) or not self._exists(database):
                return 0
            database.commit()  # a transaction that has read already would not see what the lock waited for
            # Numbers of records hold only as long as no dispatch replaces its own.
            table = TableName.parse(self._sink.table)
            with alone_in(database, table, self._dispatch_id, self._check):
                numbers = self._records_of(database, known)
                is_newer = self._find_newer(database, numbers, order)
                older = {owner: found for owner, found in numbers.items() if not is_newer.get(owner)}
                for dispatch_id, found in older.items():
                    self._mark(database, dispatch_id, found)
                self._check()
        return sum(map(len, older.values()))

    def _records_of(self, database: Database, known: pa.ChunkedArray) -> dict[str, list[int]]:
        """The numbers of the records that can be released and have one of these keys, by dispatch."""
        numbers: dict[str, list[int]] = {}
        for batch in self._open_records(database):
            texts = batch.column(2).cast(pa.string())
            for record in batch.filter(pc.is_in(texts, value_set=known)).to_pylist():
                dispatch_id, number, _ = record.values()
                numbers.setdefault(dispatch_id, []).append(int(number))
        return numbers

    def _open_records(self, database: Database) -> pa.RecordBatchReader:
        quote = database.engine.quote
        columns = ", ".join(map(quote, ("dispatch_id", RECORD_NUMBER, "key_text")))
        return database.read(
            f"SELECT {columns} FROM {self._table(database)} WHERE {quote('model')} = ?"
            f" AND {quote('released_by')} IS NULL AND {quote('dispatch_id')} <> ?",
            batch_rows=_BATCH_ROWS,
            parameters=[self._model.name, self._dispatch_id],
        )

    def _mark(self, database: Database, dispatch_id: str, numbers: list[int]) -> None:
        # By number, not by key: a collation may treat two keys as one.
        quote = database.engine.quote
        for start in range(0, len(numbers), _RELEASED_AT_ONCE):
            listed = ", ".join(map(str, numbers[start : start + _RELEASED_AT_ONCE]))
            database.execute(
                f"UPDATE {self._table(database)} SET {quote('released_by')} = ?"
                f" WHERE {quote('dispatch_id')} = ? AND {quote(RECORD_NUMBER)} IN ({listed})",
                [self._dispatch_id, dispatch_id],
            )

    def _completed(self, rejected: RejectedRows, released: Mapping[str, str]) -> pa.RecordBatchReader:
        """The records with the columns of the table; `released` is read while the batches are."""
        key = self._model.key
        schema = quarantine_schema([rejected.records.schema.field(name) for name in key])
        owner, model, at, judged_by = (
            pa.scalar(value, schema.field(name).type)
            for name, value in (
                ("dispatch_id", self._dispatch_id),
                ("model", self._model.name),
                ("quarantined_at", rejected.at),
                ("judged_by", rejected.judged_by),
            )
        )

        def batches() -> Iterator[pa.RecordBatch]:
            number = 1
            for batch in rejected.records:
                rows = batch.num_rows
                numbers = pa.array(np.arange(number, number + rows))
                number += rows
                texts = key_texts(batch, key)
                released_by = pa.array([released.get(text) for text in texts.to_pylist()], pa.string())
                columns = [*batch.select(list(key)).columns, numbers, *batch.select(list(_COPIED)).columns]
                columns += [texts, *(pa.repeat(value, rows) for value in (owner, model, at))]
                columns += [released_by, pa.repeat(judged_by, rows)]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

        return pa.RecordBatchReader.from_batches(schema, batches())

    @contextlib.contextmanager
    def _open(self) -> Iterator[Database]:
        with contextlib.closing(self._deployment.database(self._sink.connection)) as database:
            yield database

    def _table(self, database: Database) -> str:
        return TableName.parse(self._sink.table).quoted(database.engine)

    def _exists(self, database: Database) -> bool:
        return database.columns(TableName.parse(self._sink.table)) is not None


def _was_since(at: object, collected_at: datetime | None) -> bool:
    """Whether a record was written after its rows were collected, to the second: a table may keep no more."""
    quarantined_at = stored_time(at)
    if collected_at is None or quarantined_at is None:
        return True
    return quarantined_at >= collected_at.replace(microsecond=0)


def judgement(
    model: ModelConfig, artifact_sha256: str, input_sha256: str | None, baseline: Baseline | None
) -> str:
    """A hash of what decides whether a row is rejected: model, table, and contract with its baseline."""
    parts = [artifact_sha256, model.model_dump_json(include={"features", "input", "output"})]
    # A model refuses rows that come in another type than in training.
    if model.model.container is not None or model.model.dtypes is not None:
        parts.append(model.model.model_dump_json(include={"container", "dtypes"}))
    if baseline is not None:
        parts.append(json.dumps(asdict(baseline), default=str))
    parts += beside_artifact(model, input_sha256)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def only_with_keys(
    rows: pa.RecordBatchReader, key: Sequence[str], keys: pa.StringArray
) -> pa.RecordBatchReader:
    """The rows whose key is among `keys`; rows without the key's columns pass: `collect` refuses them."""
    return _filtered(rows, key, lambda texts: pc.is_in(texts, value_set=keys))


def without_keys(
    rows: pa.RecordBatchReader, key: Sequence[str], keys: pa.StringArray
) -> pa.RecordBatchReader:
    """The rows whose key is not among `keys`, likewise."""
    return _filtered(rows, key, lambda texts: pc.invert(pc.is_in(texts, value_set=keys)))


def _filtered(
    rows: pa.RecordBatchReader, key: Sequence[str], chosen: Callable[[pa.StringArray], pa.BooleanArray]
) -> pa.RecordBatchReader:
    if not set(key) <= set(rows.schema.names):
        return rows

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            yield batch.filter(chosen(key_texts(batch, key)))

    return pa.RecordBatchReader.from_batches(rows.schema, batches())
