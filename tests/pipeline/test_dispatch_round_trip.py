"""Any value of a type, stored by another client, goes through a dispatch and is there again as it was.

Stored by the other client, then collected, logged, answered by a model that repeats what it is given,
persisted, and read by the other client; hypothesis looks for a value that any of it changes. All types travel
in one table, so that a few examples try many values. A row with a NULL has no answer, and is rejected.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_plugin.events.details.step_reports import Accounts
from mlops_plugin.pipeline import steps
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.staging.notes import require_logged
from mlops_plugin.pipeline.staging.records import Judge
from mlops_plugin.pipeline.staging.shelf import unchecked, unheard
from mlops_plugin.pipeline.writing.sinks import TableSink
from support.random_examples import examples
from support.sinks import MODES, Mode
from support.ways_in import WAYS_IN, WayIn, way_in
from support.workshop import Workshop

_EXAMPLES = 15
_DIGITS = Context(prec=40)
_ROWS = 25
_SHA256 = "ab" * 32


@dataclass(frozen=True)
class Stored:
    """A column of the source in each engine's words, and values for it."""

    mysql: str
    postgres: str
    sqlite: str
    values: st.SearchStrategy[Any]


# Without NUL, which PostgreSQL has not, and without lone surrogates, which are no text.
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
_CUT_EASILY = st.sampled_from(["", " ", "a ", "\t", "'", "\\"])
_FINITE = st.floats(allow_nan=False, allow_infinity=False)
# MySQL drops the sign of a negative zero.
_DOUBLES = _FINITE.map(lambda value: value or 0.0)
_MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
_COLUMNS = {
    "small": Stored("SMALLINT", "SMALLINT", "SMALLINT", st.integers(-(2**15), 2**15 - 1)),
    "whole": Stored("INT", "INTEGER", "INT", st.integers(-(2**31), 2**31 - 1)),
    "large": Stored("BIGINT", "BIGINT", "BIGINT", st.integers(-(2**63), 2**63 - 1)),
    "amount": Stored(
        "DECIMAL(30,7)",
        "NUMERIC(30,7)",
        "TEXT",
        st.integers(-(10**30) + 1, 10**30 - 1).map(lambda digits: _DIGITS.scaleb(Decimal(digits), -7)),
    ),
    "score": Stored("DOUBLE", "DOUBLE PRECISION", "DOUBLE", _DOUBLES),
    "flag": Stored("BOOLEAN", "BOOLEAN", "BOOLEAN", st.booleans()),
    "word": Stored("VARCHAR(40) CHARACTER SET utf8mb4", "VARCHAR(40)", "VARCHAR(40)", _TEXTS | _CUT_EASILY),
    "essay": Stored("LONGTEXT CHARACTER SET utf8mb4", "TEXT", "TEXT", _TEXTS | _CUT_EASILY),
    "bytes": Stored(
        "VARBINARY(60)",
        "BYTEA",
        "BLOB",
        st.binary(max_size=60) | st.sampled_from([b"", b"\0", b"a\0", b"a "]),
    ),
    "day": Stored("DATE", "DATE", "DATE", st.dates()),
    "moment": Stored("DATETIME(6)", "TIMESTAMP", "DATETIME", _MOMENTS),
    "clock": Stored("TIME(6)", "TIME", "TIME", st.times()),
}


@pytest.mark.parametrize("name", WAYS_IN)
def test_a_value_of_any_type_is_there_again_as_it_was(
    name: str, request: pytest.FixtureRequest, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = way_in(name, request, workshop.folder)
    monkeypatch.setenv("AIRFLOW_CONN_SINK", way.airflow_connection)
    kinds = {column: getattr(stored, way.engine) for column, stored in _COLUMNS.items()}
    # On MySQL a TIME arrives as a duration, which no sink takes: the error says so, and to what to cast it.
    if name == "mysql":
        del kinds["clock"]
    way.execute(f"CREATE TABLE source (id INTEGER PRIMARY KEY, {_listed(kinds)})")
    for mode in MODES:
        sink = {"mode": mode, "table": f"sink_{mode}"}
        workshop.add_model(mode, sink=sink, output={"on_violation": "reject"}, error_threshold="100%")
    values = [_COLUMNS[column].values for column in kinds]
    whole, with_nulls = st.tuples(*values), st.tuples(*(st.none() | value for value in values))
    rows = st.lists(whole | with_nulls, min_size=_ROWS // 2, max_size=_ROWS)

    # The tables and the server outlive the examples.
    @settings(
        max_examples=examples(_EXAMPLES),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(rows, st.sampled_from(MODES))
    def round_trip(values: list[tuple[Any, ...]], mode: Mode) -> None:
        numbered = [(number, *row) for number, row in enumerate(values)]
        stored = [tuple(map(_in_sqlites_words, row)) for row in numbered] if name == "sqlite" else numbered
        way.execute("DELETE FROM source")
        way.fill("source", stored)
        dispatch = workshop.dispatch(mode)
        accounts = _run(dispatch, way, workshop.deployment, list(kinds))
        predicted = [row for row in stored if None not in row]
        rejected = len(stored) - len(predicted)
        assert accounts == Accounts(len(stored), len(predicted), rejected, len(predicted))
        shown = f"SELECT id, {', '.join(kinds)} FROM"
        assert _comparable(way.rows(f"{shown} source ORDER BY id")) == _comparable(stored)
        table, own = dispatch.model.sink.table, f"WHERE dispatch_id = '{dispatch.id}' ORDER BY id"
        if predicted:  # without a row, no table is made
            assert _comparable(way.rows(f"{shown} {table} {own}")) == _comparable(predicted)
            said = set(way.rows(f"SELECT model, artifact_sha256 FROM {table} {own}"))
            assert said == {(mode, _SHA256)}
        if rejected:
            records = way.rows(f"SELECT id, column_name FROM {table}_quarantine {own}, record_number")
            assert records == [
                (number, column)
                for number, *row in stored
                for column, value in zip(kinds, row, strict=True)
                if value is None
            ]

    round_trip()


def _listed(kinds: dict[str, str]) -> str:
    return ", ".join(f"{column} {kind}" for column, kind in kinds.items())


@dataclass(frozen=True)
class Echo:
    """A model that answers what it is given."""

    outputs: pa.Schema
    artifact_sha256: str = _SHA256
    signature_sha256: str | None = None
    undecided: tuple[str, ...] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)
    packages: None = None

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(self.outputs.names)

    def learn_outputs(self, rows: pa.RecordBatch) -> bool:
        return bool(rows.num_rows)

    def check(self, rows: pa.Schema) -> None:
        """Any rows will do."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return rows.select(self.outputs.names)


def _run(dispatch: Dispatch, way: WayIn, deployment: Deployment, columns: list[str]) -> Accounts:
    """The steps as the runner calls them, with a model that is no file."""
    shelf = deployment.staging.shelf(dispatch.model.name, dispatch.id)
    query = f"SELECT id, {', '.join(columns)} FROM source"
    with way.open() as database:
        steps.collect(dispatch, query, database.read(query, batch_rows=10), shelf)
    steps.log(dispatch, Judge(_SHA256, None), shelf)
    logged = require_logged(dispatch.model, shelf)
    with shelf.rows(logged.parts[0].staged) as rows:
        outputs = pa.schema(list(rows.schema)[1:])
    steps.infer(dispatch, Echo(outputs), shelf)
    sink = TableSink(dispatch, deployment, unchecked, unheard)
    return steps.persist(dispatch, logged, sink, shelf).accounts


def _in_sqlites_words(value: Any) -> Any:
    """A value as it is kept in SQLite, which has numbers, texts and bytes."""
    match value:
        case Decimal():
            return str(value)
        case date() | time():
            return value.isoformat()
    return value


def _comparable(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(map(_plain, row)) for row in rows]


def _plain(value: Any) -> Any:
    match value:
        case bool():
            return int(value)
        case float():
            return struct.pack("d", value)
        case memoryview():
            return bytes(value)
        case timedelta():
            return (datetime.min + value).time()
    return value
