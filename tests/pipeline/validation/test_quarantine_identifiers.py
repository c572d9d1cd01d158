"""The quarantine under names that SQL reads otherwise without quotes: of its table, its schema, its key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_plugin.databases.sink.write_request import Order
from mlops_plugin.pipeline.validation.quarantine import Quarantine
from mlops_plugin.pipeline.validation.rejections import Refused, RejectedRows, Rejections
from mlops_plugin.pipeline.writing.predictions import first_rejections
from support.hostile_names import MISREAD, NAMES
from support.ways_in import WAYS_IN, WayIn, way_in
from support.workshop import FEATURES, Workshop
from support.written_types import WAYS_OUT

_AT = datetime(2026, 1, 2, tzinfo=UTC)
_KEYS_AT_ONCE = 13  # MariaDB's indexes have sixteen columns at most
_RULE = {"columns": {"a": {"type": "number", "max": 100}}}


def table_named(*names: str) -> str:
    """A table as the configuration writes it."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


@pytest.fixture
def connected(
    request: pytest.FixtureRequest, tmp_path: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> WayIn:
    """A new database by the way in that a test is parametrized with, as source and sink of the workshop."""
    way = way_in(request.param, request, tmp_path)
    for name in ("SOURCE", "SINK"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", way.airflow_connection)
    return way


def rejected(key: str, ids: Sequence[int]) -> pa.RecordBatchReader:
    rows = pa.RecordBatch.from_pydict({key: pa.array(ids, pa.int64())})
    with Rejections(list(rows.schema)) as rejections:
        rejections.add(rows, 0, [Refused("a", "too large", pa.array(range(len(ids)), pa.int64()))])
        return pa.RecordBatchReader.from_batches(rejections.schema, list(rejections.batches()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [NAMES[::6], pytest.param(NAMES, marks=pytest.mark.long)], ids=["a sixth", "all"]
)
@pytest.mark.parametrize("connected", [way for names in WAYS_OUT.values() for way in names], indirect=True)
def test_rows_are_kept_found_and_released_under_any_name(
    connected: WayIn, names: Sequence[str], workshop: Workshop
) -> None:
    for name in names:
        if name in MISREAD.get(connected.name, ()):
            continue
        table = table_named(f"kept {name}")
        workshop.add_model("churn", key=[name], quarantine={"table": table}, input=_RULE)
        model, deployment = workshop.model(), workshop.deployment
        first, second, third = (Quarantine(model, dispatch, deployment) for dispatch in ("d1", "d2", "d3"))
        first.write(RejectedRows(rejected(name, [1, 2, 3]), 3, _AT, "0" * 64, Order(1), "as now", _AT))
        assert sorted(second.keys().to_pylist()) == ["1", "2", "3"], name
        assert sorted(second.keys_judged_by("as now").to_pylist()) == ["1", "2", "3"], name
        predicted = pa.table({name: pa.array([1, 2], pa.int64())})
        assert second.release(predicted.to_reader(), Order(2)) == 2, name
        assert third.keys().to_pylist() == ["3"], name
        if connected.name != "odbc-sqlite":  # which refuses to read a time
            shown = first_rejections(deployment, model, "d1", limit=10, timeout_s=600)
            assert (shown.columns[0], len(shown.rows)) == (name, 3)


def fill(way: WayIn, table: str, names: Sequence[str]) -> None:
    """A table of three rows whose key is all of `names`; the last row breaks the rule."""
    real = {"mysql": "DOUBLE", "postgres": "DOUBLE PRECISION", "sqlite": "REAL"}[way.engine]
    columns = [f"{way.quoted(name)} BIGINT" for name in names] + [f"{name} {real}" for name in FEATURES]
    values = ", ".join(
        f"({', '.join([str(number)] * len(names))}, {a}, 0, 0)"
        for number, a in ((1, 0.5), (2, 1.5), (3, 900))
    )
    way.execute(f"CREATE TABLE {table} ({', '.join(columns)})", f"INSERT INTO {table} VALUES {values}")


def described(workshop: Workshop, way: WayIn, names: Sequence[str], schema: Sequence[str] = ()) -> None:
    """A model whose key is all of `names` and whose tables have the last for a name."""
    source = way.quote_table(table_named(*schema, f"source {names[-1]}"))
    query = f"SELECT {', '.join(map(way.quoted, names))}, {', '.join(FEATURES)} FROM {source}"
    workshop.add_model(
        "churn",
        key=list(names),
        source={"query": query},
        sink={"table": table_named(*schema, f"sink {names[-1]}")},
        quarantine={"table": table_named(*schema, f"kept {names[-1]}")},
        input=_RULE,
        error_threshold=3,
    )


def dispatch_twice(workshop: Workshop, way: WayIn, names: Sequence[str], schema: Sequence[str] = ()) -> None:
    """One row is kept back; mended in the source, a dispatch of the quarantined rows predicts it."""
    source, sink, kept = (
        way.quote_table(table_named(*schema, f"{kind} {names[-1]}")) for kind in ("source", "sink", "kept")
    )
    fill(way, source, names)
    described(workshop, way, names, schema)
    key = ", ".join(map(way.quoted, names))

    def stored(table: str, more: str) -> list[tuple[Any, ...]]:
        rows = sorted(way.rows(f"SELECT {key}, {more} FROM {table}"))
        assert all(set(values) == {values[0]} for *values, _ in rows)
        return [(number, said) for number, *_, said in rows]

    first, second = workshop.dispatch(), workshop.dispatch(is_quarantined=True)
    workshop.run(first)
    assert stored(sink, "dispatch_id") == [(1, first.id), (2, first.id)]
    assert stored(kept, "released_by") == [(3, None)]
    way.execute(f"UPDATE {source} SET a = 2 WHERE a > 100")
    workshop.run(second)
    assert stored(sink, "dispatch_id") == [(1, first.id), (2, first.id), (3, second.id)]
    assert stored(kept, "released_by") == [(3, second.id)]


@pytest.mark.parametrize("connected", WAYS_IN, indirect=True)
@pytest.mark.parametrize("first", range(0, len(NAMES), _KEYS_AT_ONCE))
def test_a_dispatch_and_one_of_what_it_kept_back_serve_any_names(
    connected: WayIn, workshop: Workshop, first: int
) -> None:
    misread = MISREAD.get(connected.name, ())
    names = [name for name in NAMES[first : first + _KEYS_AT_ONCE] if name not in misread]
    dispatch_twice(workshop, connected, names)


@pytest.mark.parametrize("connected", [way for way in WAYS_IN if way != "sqlite"], indirect=True)
@pytest.mark.parametrize(
    "schema",
    ["Mixed Case", 'my "own"']
    + [pytest.param(name, marks=pytest.mark.long) for name in ("order", "grüße", "per%cent;")],
)
def test_source_sink_and_quarantine_may_stand_in_a_schema_of_any_name(
    connected: WayIn, workshop: Workshop, schema: str
) -> None:
    # Schemas of MariaDB are databases of all its server.
    schema = f"{schema} {connected.spec.schema}"
    connected.execute(f"CREATE SCHEMA {connected.quoted(schema)}")
    dispatch_twice(workshop, connected, ["id"], [schema])
