"""Partitions: together they are all rows, each row once; and a dispatch in parts is still one dispatch."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_plugin.config.schema import PartitionsConfig
from mlops_plugin.databases.engines.registry import engine_named
from mlops_plugin.databases.selection import narrowed
from mlops_plugin.databases.sql_text import question_marks
from mlops_plugin.errors import (
    ArtifactError,
    KeyColumnError,
    PartitionError,
    SinkError,
    StagingError,
    ThresholdError,
)
from mlops_plugin.events.details.step_reports import CollectReport, InferReport, ReasonCount
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.reading.partitions import Partition, plan_partitions
from mlops_plugin.pipeline.reading.ranges import ends_of
from mlops_plugin.pipeline.recording.infer_reports import infer_reasons, merge_reports
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.runner import run_step
from mlops_plugin.pipeline.staging.notes import read_note
from mlops_plugin.pipeline.staging.records import Planned
from support.divided_table import fill
from support.random_examples import examples
from support.ways_in import WAYS_IN, WayIn, way_in
from support.workshop import Workshop

QUERY = "SELECT id, v FROM t"


class InMemory:
    """As much of a `Database` as planning needs, over rows that a property test makes up."""

    conn_id = "memory"
    engine = engine_named("sqlite")

    def __init__(self, values: Sequence[Any]) -> None:
        self._connection = sqlite3.connect(":memory:")
        self._connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        self._connection.executemany("INSERT INTO t (v) VALUES (?)", [(value,) for value in values])

    def describe(self, _query: str) -> pa.Schema:
        return pa.schema([("id", pa.int64()), ("v", pa.int64())])

    def read(self, query: str, *, batch_rows: int, parameters: Sequence[Any] = ()) -> pa.RecordBatchReader:
        rows = self._connection.execute(question_marks(query), tuple(parameters)).fetchall()
        return pa.table({"first": [row[0] for row in rows]}).to_reader(batch_rows)

    def close(self) -> None:
        self._connection.close()


def ids_by_partition(database: Any, partitions: Sequence[Partition], query: str = QUERY) -> list[list[int]]:
    found = []
    for partition in partitions:
        # As the note of `plan` hands it on.
        handed_on = partition.stored().partition()
        statement, parameters = narrowed(query, handed_on.conditions, database.engine.name)
        rows = database.read(statement, batch_rows=100, parameters=parameters).read_all()
        found.append(rows.column(0).to_pylist())
    return found


numbers = st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5)
ways = st.one_of(
    st.builds(PartitionsConfig, column=st.just("v"), count=st.integers(1, 12)),
    st.builds(PartitionsConfig, hash=st.just(("v",)), count=st.integers(1, 12)),
    st.builds(
        PartitionsConfig,
        predicates=st.sampled_from([("v < 0",), ("v < 0", "v = 3 -- three"), ("v IS NULL", "v > 100")]),
    ),
)


@settings(max_examples=examples(300), deadline=None)
@given(values=st.lists(numbers, max_size=30), later=st.lists(numbers, max_size=5), wanted=ways)
def test_partitions_are_together_the_whole_and_do_not_overlap(
    values: list[int | None], later: list[int | None], wanted: PartitionsConfig
) -> None:
    """Also for rows that appear between planning and reading."""
    with contextlib.closing(InMemory(values)) as planned_on:
        partitions = plan_partitions(planned_on, QUERY, wanted, "p")  # type: ignore[arg-type]
    assert 1 <= len(partitions) <= (wanted.count or 3)
    with contextlib.closing(InMemory([*values, *later])) as database:
        found = [row for rows in ids_by_partition(database, partitions) for row in rows]
    assert sorted(found) == list(range(1, len(values) + len(later) + 1))


@pytest.fixture
def filled(way: WayIn) -> WayIn:
    return fill(way)


_DIVIDED_BY: tuple[dict[str, Any], ...] = (
    {"column": "v_int", "count": 3},
    {"column": "v_date", "count": 4},
    {"column": "v_when", "count": 4},
    {"column": "v_zone", "count": 4},
    {"column": "v_decimal", "count": 3},
    {"hash": ["v_text"], "count": 3},
    {"hash": ["v_int", "v_date"], "count": 2},
    {"predicates": ["v_int > 0", "v_text = 'nobody'"]},
)
_TEXT_IN_SQLITE = ("v_date", "v_when", "v_zone")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        pytest.param(name, wanted, id="-".join(str(value) for value in (name, *wanted.values())))
        for name in WAYS_IN
        for wanted in _DIVIDED_BY
        if name != "sqlite" or wanted.get("column") not in _TEXT_IN_SQLITE
    ],
)
def test_every_engine_divides_every_type_of_column(
    name: str, wanted: dict[str, Any], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    filled = fill(way_in(name, request, tmp_path))
    config = PartitionsConfig.model_validate(wanted, strict=False)
    query = "SELECT * FROM t -- all"
    with filled.open() as database:
        partitions = plan_partitions(database, query, config, "p")
        found = ids_by_partition(database, partitions, query)
    assert sorted(number for numbers in found for number in numbers) == [1, 2, 3, 4, 5, 6]
    assert len([numbers for numbers in found if numbers]) > 1


def test_bounds_are_found_without_reading_the_table(request: pytest.FixtureRequest) -> None:
    way = way_in("odbc-mariadb", request, request.getfixturevalue("tmp_path"))
    way.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, v INT) AS SELECT seq AS id, seq AS v FROM seq_1_to_20000"
    )

    with way.open() as database:

        def rows_touched() -> int:
            status = "SHOW SESSION STATUS LIKE 'Handler_read%'"
            found = database.read(status, batch_rows=100).read_all()
            return sum(int(value) for value in found.column(1).to_pylist())

        before = rows_touched()
        partitions = plan_partitions(database, QUERY, PartitionsConfig(column="id", count=8), "p")
        touched = rows_touched() - before
    assert len(partitions) == 8
    assert touched < 200


def test_a_column_that_cannot_be_divided_is_refused_by_name(filled: WayIn) -> None:
    with filled.open() as database:
        with pytest.raises(PartitionError, match=r"p\.column: 'v_text' .*\bhash\b"):
            plan_partitions(database, "SELECT * FROM t", PartitionsConfig(column="v_text", count=2), "p")
        with pytest.raises(PartitionError, match=r"'nothing'.*'id'"):
            plan_partitions(database, "SELECT * FROM t", PartitionsConfig(column="nothing", count=2), "p")


@pytest.mark.parametrize("only", [0, 2.5, Decimal(7), date(2026, 1, 1), datetime(2026, 1, 1)])
def test_one_value_makes_one_partition(only: Any) -> None:
    (partition,) = plan_between(only, only, count=4)
    assert partition.name == "all rows"


def test_timestamps_are_divided_to_the_microsecond() -> None:
    start = datetime(2026, 1, 1, 0, 0, 0, 7)
    first, second = plan_between(start, start + timedelta(microseconds=3), count=2)
    assert first.stored().partition().parameters == (start + timedelta(microseconds=2),)
    assert second.name == "v from 2026-01-01T00:00:00.000009"


def plan_between(least: Any, greatest: Any, *, count: int) -> list[Partition]:
    ends = iter([least, greatest])

    class Between(InMemory):
        def read(self, *_: Any, **__: Any) -> pa.RecordBatchReader:
            return pa.table({"bound": [next(ends)]}).to_reader()

    with contextlib.closing(Between([])) as database:
        config = PartitionsConfig(column="v", count=count)
        return plan_partitions(database, QUERY, config, "p")  # type: ignore[arg-type]


# Whole dispatches


def partitioned(workshop: Workshop, rows: int = 40, **wanted: Any) -> Dispatch:
    workshop.add_rows(rows - 5)
    workshop.add_model("churn", source={"partitions": wanted or {"column": "id", "count": 4}})
    return workshop.dispatch()


def step(
    workshop: Workshop,
    dispatch: Dispatch,
    name: Any,
    partition: int | None = None,
    number: int = 1,
    query: str | None = None,
) -> Any:
    attempt = Attempt(number, is_final=False, partition=partition)
    rendered = query or dispatch.model.source.query
    return run_step(name, dispatch, workshop.deployment, query=lambda: rendered, attempt=attempt)


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
def test_partitions_give_what_the_whole_gives(workshop: Workshop, mode: str) -> None:
    workshop.add_rows(35)
    workshop.add_model("churn", sink={"mode": mode})
    workshop.run(whole := workshop.dispatch())
    expected = workshop.predictions()
    workshop.add_model(
        "churn", source={"partitions": {"column": "id", "count": 4}}, sink={"mode": mode, "table": "parts"}
    )
    workshop.run(parts := workshop.dispatch())

    own = {"dispatch_id", "predicted_at"}
    found = [{name: row[name] for name in row if name not in own} for row in workshop.predictions("parts")]
    assert found == [{name: row[name] for name in row if name not in own} for row in expected]
    first, second = workshop.record(whole.id), workshop.record(parts.id)
    for name in ("state", "rows_collected", "rows_predicted", "rows_rejected", "rows_persisted"):
        assert getattr(first, name) == getattr(second, name), name
    assert (second.first_key, second.last_key) == (first.first_key, first.last_key)
    assert second.columns == first.columns


def test_a_partitioned_dispatch_has_one_log_entry_and_events_for_each_partition(workshop: Workshop) -> None:
    dispatch = partitioned(workshop)
    workshop.run(dispatch)
    events = workshop.events(dispatch.id)
    assert [event.kind for event in events if event.step == "log"] == ["started", "logged", "succeeded"]
    ended = [event for event in events if event.step == "collect" and event.kind == "succeeded"]
    assert [(event.partition_number, event.row_count) for event in ended] == [(n, 10) for n in range(4)]
    assert ended[1].details == CollectReport(10, partition="id from 11 to before 21")
    assert workshop.record(dispatch.id).query == dispatch.model.source.query


def test_skewed_and_empty_partitions_are_ordinary(workshop: Workshop) -> None:
    with sqlite3.connect(workshop.folder / "source.db") as source:
        source.execute("INSERT INTO customers VALUES (1000000, 0.1, 0.2, 0.3)")
    source.close()
    dispatch = partitioned(workshop, column="id", count=16)
    workshop.run(dispatch)
    events = workshop.events(dispatch.id)
    rows = [e.row_count for e in events if e.step == "infer" and e.kind == "succeeded"]
    assert sorted(rows, key=int) == [0] * 14 + [1, 40] or sum(map(int, rows)) == 41  # type: ignore[arg-type]
    assert rows.count(0) >= 13
    assert len(workshop.predictions()) == 41


def test_no_rows_at_all_are_one_empty_partition(workshop: Workshop) -> None:
    workshop.add_model(
        "churn",
        source={"query": "SELECT * FROM customers WHERE id < 0", "partitions": {"column": "id", "count": 4}},
    )
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    assert workshop.record(dispatch.id).rows_persisted == 0


def test_a_partition_is_tried_again_alone(workshop: Workshop) -> None:
    dispatch = partitioned(workshop)
    step(workshop, dispatch, "plan")
    for number in range(4):
        step(workshop, dispatch, "collect", number)
    step(workshop, dispatch, "collect", 2, number=2)  # e.g. its worker died before it could say so
    step(workshop, dispatch, "log")
    for number in (0, 1, 3):
        step(workshop, dispatch, "infer", number)
    with pytest.raises(StagingError, match=r"infer\.2\.json"):
        step(workshop, dispatch, "persist")
    step(workshop, dispatch, "infer", 2)
    step(workshop, dispatch, "persist")
    assert [row["id"] for row in workshop.predictions()] == list(range(1, 41))
    assert workshop.record(dispatch.id).rows_persisted == 40


def answered_by_tasks(workshop: Workshop, answers: str) -> list[Any]:
    """What two partitions, ids 1 to 3 and 4 to 5, leave in the sink if each has a process of its own."""
    (workshop.folder / "answering.py").write_text(
        f"import numpy as np\n\ndef f(rows):\n    return np.array([{answers} for n in rows.id])\n"
    )
    workshop.add_model(
        "churn",
        model={"format": "python", "uri": "answering:f"},
        features=["id"],
        source={"partitions": {"column": "id", "count": 2}},
    )
    dispatch = workshop.dispatch()
    for name, partition in (
        ("plan", None),
        ("collect", 0),
        ("collect", 1),
        ("log", None),
        ("infer", 0),
        ("infer", 1),
        ("persist", None),
    ):
        step(workshop, dispatch, name, partition)
    return [row["prediction"] for row in workshop.predictions()]


@pytest.mark.long
def test_whole_numbers_of_one_partition_are_numbers_beside_fractions_of_another(workshop: Workshop) -> None:
    assert answered_by_tasks(workshop, "int(n) if n < 4 else n / 2") == [1.0, 2.0, 3.0, 2.0, 2.5]


def test_numbers_of_one_partition_are_no_booleans_of_another(workshop: Workshop) -> None:
    with pytest.raises(ArtifactError, match="'prediction' with bool and int64"):
        answered_by_tasks(workshop, "bool(n > 1) if n < 4 else int(n)")
    assert not workshop.in_sink("SELECT name FROM sqlite_master WHERE name LIKE 'churn%'")


def test_partitions_with_other_columns_of_answers_are_refused(workshop: Workshop) -> None:
    with pytest.raises(ArtifactError, match="other columns"):
        answered_by_tasks(workshop, "[n, n] if max(rows.id) < 4 else [n, n, n]")


def test_rows_of_all_partitions_are_counted_also_where_persist_fails(workshop: Workshop) -> None:
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source, source:
        source.execute("UPDATE customers SET a = 1e9 WHERE id IN (1, 2, 5)")
    workshop.add_model(
        "churn",
        source={"partitions": {"column": "id", "count": 2}},
        input={"columns": {"a": {"max": 100}}},
        error_threshold=2,
    )
    dispatch = workshop.dispatch()
    with pytest.raises(ThresholdError, match="3 of 5 rows"):
        workshop.run(dispatch)

    record = workshop.record(dispatch.id)
    assert (record.state, record.rows_collected) == ("failed", 5)
    assert (record.rows_predicted, record.rows_rejected, record.rows_persisted) == (2, 3, None)


def test_a_partition_collected_anew_after_the_log_is_not_inferred(workshop: Workshop) -> None:
    dispatch = partitioned(workshop)
    step(workshop, dispatch, "plan")
    for number in range(4):
        step(workshop, dispatch, "collect", number)
    step(workshop, dispatch, "log")
    step(workshop, dispatch, "collect", 1)
    with pytest.raises(StagingError, match="clear 'log'"):
        step(workshop, dispatch, "infer", 1)
    step(workshop, dispatch, "infer", 0)


def test_partitions_of_two_plans_do_not_mix(workshop: Workshop) -> None:
    dispatch = partitioned(workshop)
    step(workshop, dispatch, "plan")
    for number in range(4):
        step(workshop, dispatch, "collect", number)
    workshop.add_rows(40)
    step(workshop, dispatch, "plan")
    step(workshop, dispatch, "collect", 0)
    with pytest.raises(StagingError, match="clear 'collect'"):
        step(workshop, dispatch, "log")
    with pytest.raises(StagingError, match=r"partition 9 .*\b4\b"):
        step(workshop, dispatch, "collect", 9)


def test_partitions_of_two_queries_do_not_mix(workshop: Workshop) -> None:
    dispatch = partitioned(workshop)
    step(workshop, dispatch, "plan")
    step(workshop, dispatch, "collect", 0)
    source = workshop.models["churn"]["source"]
    workshop.add_model("churn", source={**source, "query": "SELECT id, a, -b AS b, c FROM customers"})
    changed = replace(dispatch, model=workshop.model())
    with pytest.raises(StagingError, match=r"source\.query .*clear 'plan'"):
        step(workshop, changed, "collect", 1)
    step(workshop, changed, "plan", number=2)
    step(workshop, changed, "collect", 1, number=2)


LIMITED = "SELECT * FROM customers WHERE id <= {} AND 'PWD={}' <> ''"


def test_partitions_read_the_query_that_was_planned_whatever_its_template_says_now(
    workshop: Workshop,
) -> None:
    dispatch = partitioned(workshop, column="id", count=2)
    step(workshop, dispatch, "plan", query="SELECT * FROM customers WHERE id <= 30")
    for number, limit in enumerate((30, 20)):
        step(workshop, dispatch, "collect", number, query=f"SELECT * FROM customers WHERE id <= {limit}")
    for name, part in (("log", None), ("infer", 0), ("infer", 1), ("persist", None)):
        step(workshop, dispatch, name, part)
    assert [row["id"] for row in workshop.predictions()] == list(range(1, 31))


def test_partitions_of_a_query_with_a_secret_are_refused_once_its_template_says_something_else(
    workshop: Workshop,
) -> None:
    dispatch = partitioned(workshop, column="id", count=2)
    step(workshop, dispatch, "plan", query=LIMITED.format(30, "hidden-1"))
    note = read_note(Planned, workshop.deployment.staging.shelf("churn", dispatch.id))
    assert "hidden" not in note.query
    step(workshop, dispatch, "collect", 0, query=LIMITED.format(30, "hidden-1"))
    with pytest.raises(StagingError, match=r"source\.query: .* another text .*clear 'plan'"):
        step(workshop, dispatch, "collect", 1, query=LIMITED.format(20, "hidden-1"))
    step(workshop, dispatch, "collect", 1, query=LIMITED.format(30, "another-one"), number=2)
    for name, part in (("log", None), ("infer", 0), ("infer", 1), ("persist", None)):
        step(workshop, dispatch, name, part)
    assert [row["id"] for row in workshop.predictions()] == list(range(1, 31))


def test_overlapping_predicates_are_refused_before_a_row_is_doubled(workshop: Workshop) -> None:
    dispatch = partitioned(workshop, predicates=["id < 20", "id < 10"])
    with pytest.raises(KeyColumnError, match=r"\bid\b"):
        workshop.run(dispatch)
    with sqlite3.connect(workshop.folder / "sink.db") as sink:
        tables = sink.execute("SELECT name FROM sqlite_master WHERE name = 'churn_predictions'").fetchall()
        assert not tables or not sink.execute("SELECT * FROM churn_predictions").fetchall()
    sink.close()


@pytest.mark.parametrize(
    ("name", "of_type"), [("sqlite", "REAL"), ("duckdb", "DECIMAL(38, 0)"), ("postgres", "NUMERIC(38, 0)")]
)
def test_ranges_may_have_bounds_beyond_64_bits(
    name: str, of_type: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    way = way_in(name, request, tmp_path)
    huge = 10**30
    way.execute(f"CREATE TABLE t (id INTEGER, v {of_type})")
    way.execute(f"INSERT INTO t VALUES (1, -{huge}), (2, {huge}), (3, 0), (4, NULL)")
    with way.open() as database:
        wanted = PartitionsConfig(column="v", count=3)
        found = ids_by_partition(database, plan_partitions(database, QUERY, wanted, "partitions"))
    assert [sorted(ids) for ids in found] == [[1, 4], [3], [2]]


def test_a_row_limit_is_for_the_dispatch_not_for_each_partition(workshop: Workshop) -> None:
    partitioned(workshop)
    dispatch = workshop.dispatch(row_limit=7)
    workshop.run(dispatch)
    assert len(workshop.predictions()) == 7
    workshop.add_model("churn", source=dict(workshop.models["churn"]["source"]), sink={"mode": "replace"})
    with pytest.raises(SinkError, match="churn_predictions"):
        workshop.run(workshop.dispatch(row_limit=7))


def test_distribution_of_the_parts_is_that_of_the_whole(workshop: Workshop) -> None:
    workshop.add_rows(35)
    reports = []
    for source in ({}, {"partitions": {"hash": ["id"], "count": 3}}):
        workshop.add_model("churn", source=source)
        workshop.run(dispatch := workshop.dispatch())
        ended = [e.details for e in workshop.events(dispatch.id) if isinstance(e.details, InferReport)]
        reports.append(merge_reports(ended))
    assert reports[0] == reports[1]


def test_a_reason_that_is_rare_in_one_part_is_counted_in_full() -> None:
    common = [(f"column_{number}", "missing", 9) for number in range(20)]
    parts = [[*common, ("age", "missing", 1)], [("age", "missing", 50)]]
    whole = merge_reports([InferReport(0, 0, infer_reasons(reasons), {}, None) for reasons in parts])
    assert whole is not None
    assert whole.reasons[0] == ReasonCount("age", "missing", 51)
    assert len(whole.reasons) == 20


def test_ends_are_asked_without_the_order_that_sql_server_refuses() -> None:
    asked: list[str] = []

    def read(statement: str, **_: object) -> pa.RecordBatchReader:
        asked.append(statement)
        return pa.table({"bound": [7]}).to_reader()

    database: Any = SimpleNamespace(engine=engine_named("mssql"), read=read)
    assert ends_of(database, "SELECT id FROM t ORDER BY id", "id", pa.int64()) == (7, 7)
    assert len(asked) == 2
    assert not any("ORDER BY" in statement for statement in asked)
