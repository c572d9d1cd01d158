"""A dispatch reads what is new: where it begins, when the mark moves, and who may move it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from mlops_plugin.errors import ArtifactError, CursorError, EmptyInterval, MlopsError, ThresholdError
from mlops_plugin.events.details.step_reports import CollectReport
from mlops_plugin.events.marks import mark_history, newest_mark, set_mark
from mlops_plugin.formats.signature.signature_writer import write_signature
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.reading.increment import Increment
from support.ways_in import duckdb_way, sqlite_way
from support.workshop import Workshop

QUERY = "SELECT id, a, b, c, changed FROM arrivals"


def arrive(workshop: Workshop, *rows: tuple[int, Any]) -> None:
    """Rows of an id and a value of the cursor column."""
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source, source:
        source.execute("CREATE TABLE IF NOT EXISTS arrivals (id INTEGER, a REAL, b REAL, c REAL, changed)")
        source.executemany("INSERT INTO arrivals VALUES (?, 1, 2, 3, ?)", rows)


def incremental(workshop: Workshop, **cursor: Any) -> None:
    workshop.add_model("churn", source={"query": QUERY, "cursor": {"column": "changed", **cursor}})


def collected(workshop: Workshop, **changes: Any) -> int | None:
    """How many rows a new dispatch reads."""
    dispatch = workshop.dispatch(**changes)
    workshop.run(dispatch)
    return workshop.record(dispatch.id).rows_collected


def mark(workshop: Workshop) -> str | None:
    with workshop.deployment.event_store() as store:
        found = newest_mark(store, "churn")
    return found.value if found else None


def test_each_dispatch_begins_at_the_greatest_value_of_the_last_one(workshop: Workshop) -> None:
    incremental(workshop)
    arrive(workshop, (1, 10), (2, 30), (3, 20))
    assert (collected(workshop), mark(workshop)) == (3, "30")
    arrive(workshop, (4, 30), (5, 31), (6, 29))
    assert (collected(workshop), mark(workshop)) == (3, "31")  # 2 again, 4 and 5; 6 is late
    assert (collected(workshop), mark(workshop)) == (1, "31")
    assert [row["id"] for row in workshop.predictions()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("nanoseconds", [-1500, 1500, -(2**63) + 1000, 2**63 - 1])
def test_mark_of_nanoseconds_is_behind_no_row_of_its_microsecond(
    workshop: Workshop, nanoseconds: int
) -> None:
    incremental(workshop)
    increment = Increment(workshop.model())
    at = pa.array([nanoseconds, None], pa.timestamp("ns"))[:1]
    increment.see(pa.record_batch({"changed": at}))
    read = increment.read()
    assert read is not None
    whole = datetime(1970, 1, 1) + timedelta(microseconds=nanoseconds // 1000)
    assert read.greatest == whole.isoformat(" ")


def test_late_rows_within_the_lag_are_read(workshop: Workshop) -> None:
    incremental(workshop, lag=5)
    arrive(workshop, (1, 30))
    collected(workshop)
    arrive(workshop, (2, 25), (3, 24))
    assert collected(workshop) == 2
    assert [row["id"] for row in workshop.predictions()] == [1, 2]


def test_first_dispatch_begins_at_the_initial_value(workshop: Workshop) -> None:
    incremental(workshop, initial=20, lag=5)
    arrive(workshop, (1, 19), (2, 20), (3, 21))
    assert (collected(workshop), mark(workshop)) == (2, "21")


def test_no_new_rows_leave_the_mark_where_it_is(workshop: Workshop) -> None:
    incremental(workshop, initial=100)
    arrive(workshop, (1, 19))
    assert (collected(workshop), mark(workshop)) == (0, None)


@pytest.mark.parametrize(
    ("values", "expected", "late", "too_late"),
    [
        (
            ("2026-01-01 00:00:00", "2026-01-02T00:00:00.5", "2026-01-02"),
            "2026-01-02 00:00:00.500000",
            "2026-01-01T23:00:00.6",
            "2026-01-01 23:00:00.3",
        ),
        (
            ("2026-01-01 00:00:00Z", "2026-01-01 01:00:00+02:00"),
            "2026-01-01 00:00:00+00:00",
            "2026-01-01 02:00:00+03:00",
            "2026-01-01 00:30:00+02:00",
        ),
    ],
)
def test_times_are_compared_as_times(
    workshop: Workshop, values: tuple[str, ...], expected: str, late: str, too_late: str
) -> None:
    incremental(workshop, lag="1h")
    arrive(workshop, *enumerate(values, 1))
    assert (collected(workshop), mark(workshop)) == (len(values), expected)
    arrive(workshop, (10, late), (11, too_late))
    collected(workshop)
    assert [row["id"] for row in workshop.predictions()][-1] == 10


@pytest.mark.parametrize("changes", [{"is_dry_run": True}, {"row_limit": 2}])
def test_partial_dispatch_reads_from_the_mark_and_leaves_it(
    workshop: Workshop, changes: dict[str, Any]
) -> None:
    incremental(workshop)
    arrive(workshop, (1, 10))
    collected(workshop)
    arrive(workshop, (2, 20), (3, 30))
    collected(workshop, **changes)
    assert mark(workshop) == "10"
    assert (collected(workshop), mark(workshop)) == (3, "30")


def test_failed_dispatch_leaves_the_mark_and_its_retry_moves_it(workshop: Workshop) -> None:
    incremental(workshop)
    workshop.add_model("churn", source=workshop.models["churn"]["source"], sink={"create": False})
    arrive(workshop, (1, 10))
    dispatch = workshop.dispatch()
    with pytest.raises(MlopsError):
        workshop.run(dispatch)
    assert mark(workshop) is None
    incremental(workshop)
    workshop.run_steps(Dispatch(id=dispatch.id, model=workshop.model(), origin="terminal"), "persist")
    assert mark(workshop) == "10"


def test_dispatch_that_began_before_a_person_set_the_mark_does_not_move_it(workshop: Workshop) -> None:
    incremental(workshop)
    arrive(workshop, (1, 10), (2, 20))
    collected(workshop)
    slow = workshop.dispatch()
    workshop.run_steps(slow, "collect", "log", "infer")
    with workshop.deployment.event_store() as store:
        set_mark(store, "churn", "changed", "5", "integer", "ann")
    workshop.run_steps(slow, "persist")
    assert mark(workshop) == "5"
    assert (collected(workshop), mark(workshop)) == (2, "20")


def test_older_dispatch_that_ends_last_does_not_move_the_mark_back(workshop: Workshop) -> None:
    incremental(workshop)
    arrive(workshop, (1, 10))
    old = workshop.dispatch()
    workshop.run_steps(old, "collect", "log", "infer")
    arrive(workshop, (2, 20))
    collected(workshop)
    workshop.run_steps(old, "persist")
    with workshop.deployment.event_store() as store:
        assert [found.value for found in mark_history(store, "churn", limit=9)] == ["20"]


def test_cleared_dispatch_begins_where_it_began(workshop: Workshop) -> None:
    incremental(workshop, lag=3)
    arrive(workshop, (1, 10))
    collected(workshop)
    second = workshop.dispatch()
    arrive(workshop, (2, 20))
    workshop.run(second)
    arrive(workshop, (3, 30))
    assert collected(workshop) == 2
    workshop.run(second)
    assert workshop.record(second.id).rows_collected == 3  # all of them again, and not only what is new now
    assert mark(workshop) == "30"


def test_record_says_what_was_read(workshop: Workshop) -> None:
    incremental(workshop, lag=3)
    arrive(workshop, (1, 10))
    collected(workshop)
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    query = workshop.record(dispatch.id).query or ""
    assert "CAST(? AS INTEGER)" in query
    assert query.endswith("-- ? 1: 7")
    (report,) = [e.details for e in workshop.events(dispatch.id) if isinstance(e.details, CollectReport)]
    assert report.increment is not None
    assert (report.increment.first, report.increment.greatest) == ("7", "10")


def test_backfill_reads_its_interval_and_leaves_the_mark(workshop: Workshop) -> None:
    incremental(workshop)
    arrive(workshop, *enumerate(("2026-01-01", "2026-01-02", "2026-01-02 23:59:59", "2026-01-03"), 1))
    days = [datetime(2026, 1, day, tzinfo=UTC) for day in (2, 3)]
    assert collected(workshop, reads_own_interval=True, data_interval=(days[0], days[1])) == 2
    assert mark(workshop) is None
    assert [row["id"] for row in workshop.predictions()] == [2, 3]


@pytest.mark.parametrize(
    "times",
    [
        ("2026-06-30 23:30", "2026-07-01", "2026-07-01T23:59:59", "2026-07-02 00:00"),
        ("2026-06-30T21:30Z", "2026-06-30T22:00:00Z", "2026-07-01 17:59:59-04:00", "2026-07-01 22:00Z"),
    ],
    ids=["local times", "with a zone"],
)
def test_backfill_in_a_time_zone_reads_texts_as_they_say(workshop: Workshop, times: Sequence[str]) -> None:
    incremental(workshop)
    workshop.add_model("churn", **{**workshop.models["churn"], "timezone": "Europe/Berlin"})
    arrive(workshop, *enumerate(times, 1))
    berlin = ZoneInfo("Europe/Berlin")
    day = (datetime(2026, 7, 1, tzinfo=berlin), datetime(2026, 7, 2, tzinfo=berlin))
    assert collected(workshop, reads_own_interval=True, data_interval=day) == 2
    assert [row["id"] for row in workshop.predictions()] == [2, 3]


def test_backfill_of_an_interval_that_ends_before_it_begins_is_refused(workshop: Workshop) -> None:
    incremental(workshop)
    arrive(workshop, (1, "2026-01-02"))
    first, second = (datetime(2026, 1, day, tzinfo=UTC) for day in (2, 3))
    with pytest.raises(EmptyInterval, match="begins at 2026-01-03"):
        collected(workshop, reads_own_interval=True, data_interval=(second, first))


@pytest.mark.parametrize("value", [None, "31.01.2026"])
def test_backfill_passes_over_no_row_whose_time_nobody_can_tell(
    workshop: Workshop, value: str | None
) -> None:
    incremental(workshop)
    arrive(workshop, (1, "2026-01-02"), (2, value))
    day = (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC))
    with pytest.raises(CursorError, match=r"'changed' is NULL|not all times in the same form"):
        collected(workshop, reads_own_interval=True, data_interval=day)


def test_backfill_of_integers_is_refused(workshop: Workshop) -> None:
    incremental(workshop)
    arrive(workshop, (1, 10))
    with pytest.raises(CursorError, match=r"'changed'.*`mlops cursor churn --set"):
        collected(workshop, reads_own_interval=True)


@pytest.mark.parametrize(
    ("value", "cursor", "says"),
    [
        (None, {}, r"'changed' is NULL in 1 of 2 rows.*COALESCE\(changed"),
        (1.5, {}, "is of type double"),
        (b"x", {}, "is of type binary"),
        ("soon", {}, r"source\.cursor\.column: .*soon"),
        (7, {"lag": "1h"}, "holds integers, but the lag is the duration 1h"),
        ("2026-01-01", {"lag": 7}, "lag is the number 7"),
        (7, {"initial": "2026-01-01"}, "holds values of type integer"),
        ("2026-01-01", {"initial": 7}, "holds values of type timestamp"),
        (7, {"column": "nothing"}, "no column 'nothing'; it returns id, a, b, c, changed"),
    ],
)
def test_column_that_cannot_be_a_cursor_is_refused(
    workshop: Workshop, value: object, cursor: dict[str, Any], says: str
) -> None:
    arrive(workshop, (1, value), (2, value if value is not None else 7))
    incremental(workshop, **cursor)
    with pytest.raises(CursorError, match=says):
        collected(workshop)
    assert mark(workshop) is None


def test_null_among_rows_that_are_not_new_is_noticed(workshop: Workshop) -> None:
    incremental(workshop)
    arrive(workshop, (1, 10))
    collected(workshop)
    arrive(workshop, (2, None))
    with pytest.raises(CursorError, match="NULL"):
        collected(workshop)


def test_mark_of_another_column_does_not_count(workshop: Workshop) -> None:
    incremental(workshop)
    arrive(workshop, (1, 10), (2, 20))
    collected(workshop)
    workshop.add_model("churn", source={"query": QUERY, "cursor": {"column": "id"}})
    assert (collected(workshop), mark(workshop)) == (2, "2")


def _decide(workshop: Workshop, value: str | None) -> None:
    """As `mlops cursor` does: go on behind a value, or start again."""
    with workshop.deployment.event_store() as store:
        set_mark(store, "churn", "changed", value, None if value is None else "integer", "ann")


def test_mark_of_a_model_that_had_the_name_before_is_for_somebody_to_decide(workshop: Workshop) -> None:
    incremental(workshop)
    arrive(workshop, (1, 10), (2, 20))
    collected(workshop)
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source, source:
        source.execute("CREATE TABLE departures AS SELECT id + 5 AS id, a, b, c, 3 AS changed FROM arrivals")
    query = QUERY.replace("arrivals", "departures")
    workshop.add_model("churn", source={"query": query, "cursor": {"column": "changed"}})
    with pytest.raises(
        CursorError, match=r"that of connection 'source' \(arrivals\).*mlops cursor churn --reset"
    ):
        collected(workshop)
    assert mark(workshop) == "20"
    _decide(workshop, None)
    assert (collected(workshop), mark(workshop)) == (2, "3")
    assert (collected(workshop), mark(workshop)) == (2, "3")  # the greatest value again, from its own mark on
    assert [row["id"] for row in workshop.predictions()] == [1, 2, 6, 7]


@pytest.mark.parametrize(
    "query", [f"{QUERY} WHERE id < 9", f"{QUERY} JOIN (SELECT 1 AS one FROM arrivals LIMIT 1) other ON one"]
)
def test_another_condition_or_join_goes_on_from_the_mark(workshop: Workshop, query: str) -> None:
    incremental(workshop)
    arrive(workshop, (1, 10), (2, 20))
    collected(workshop)
    workshop.add_model("churn", source={"query": query, "cursor": {"column": "changed"}})
    assert (collected(workshop), mark(workshop)) == (1, "20")


@pytest.mark.parametrize(("value", "rows"), [(None, 2), ("20", 1)])
def test_another_sink_needs_a_decision_where_to_start(
    workshop: Workshop, value: str | None, rows: int
) -> None:
    incremental(workshop)
    arrive(workshop, (1, 10), (2, 20))
    collected(workshop)
    workshop.add_model(
        "churn", source={"query": QUERY, "cursor": {"column": "changed"}}, sink={"table": "others"}
    )
    with pytest.raises(
        CursorError, match=r"predictions in churn_predictions of 'sink', not of .* in others of"
    ):
        collected(workshop)
    _decide(workshop, value)
    assert (collected(workshop), mark(workshop)) == (rows, "20")
    assert (collected(workshop), mark(workshop)) == (1, "20")


def test_dispatch_that_is_cleared_for_another_sink_needs_one_too(workshop: Workshop) -> None:
    incremental(workshop)
    arrive(workshop, (1, 10))
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    workshop.add_model(
        "churn", source={"query": QUERY, "cursor": {"column": "changed"}}, sink={"table": "others"}
    )
    with pytest.raises(CursorError, match="--reset"):
        workshop.run(Dispatch(id=dispatch.id, model=workshop.model(), origin="terminal"))
    _decide(workshop, None)
    arrive(workshop, (2, 20))
    workshop.run(Dispatch(id=dispatch.id, model=workshop.model(), origin="terminal"))
    assert (workshop.record(dispatch.id).rows_collected, mark(workshop)) == (2, "20")
    assert collected(workshop) == 1


def test_dispatch_that_was_corrected_after_its_first_try_leaves_nothing_to_decide(workshop: Workshop) -> None:
    incremental(workshop)
    arrive(workshop, (1, 10))
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer")
    workshop.add_model(
        "churn", source={"query": QUERY, "cursor": {"column": "changed"}}, sink={"table": "others"}
    )
    workshop.run(Dispatch(id=dispatch.id, model=workshop.model(), origin="terminal"))
    assert (collected(workshop), mark(workshop)) == (1, "10")


def predicts_what_is_missing(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", workshop.connections["sink"])
    with contextlib.closing(sqlite3.connect(workshop.folder / "sink.db")) as sink, sink:
        sink.execute("CREATE TABLE IF NOT EXISTS arrivals (id, a REAL, b REAL, c REAL)")
        sink.executemany("INSERT INTO arrivals VALUES (?, 1, 2, 3)", [(1,), (2,)])
    workshop.add_model(
        "churn",
        source={"connection": "sink", "query": "SELECT id, a, b, c FROM arrivals", "skip_predicted": True},
        sink={"mode": mode},
    )


@pytest.mark.parametrize("skips", [False, True])
def test_keys_are_found_by_an_index_where_a_model_looks_for_them(workshop: Workshop, skips: bool) -> None:
    with contextlib.closing(sqlite3.connect(workshop.folder / "sink.db")) as sink, sink:
        sink.execute("CREATE TABLE one AS SELECT 1 AS id, 2.0 AS a, 3.0 AS b, 4.0 AS c")
    source = {"connection": "sink", "query": "SELECT * FROM one"}
    workshop.add_model("churn", source={**source, "skip_predicted": skips}, sink={"mode": "append"})
    workshop.run(workshop.dispatch())
    with contextlib.closing(sqlite3.connect(workshop.folder / "sink.db")) as sink:
        looking = "EXPLAIN QUERY PLAN SELECT 1 FROM churn_predictions WHERE id = 1"
        plan = " ".join(row[-1] for row in sink.execute(looking))
    assert ("(id=?)" in plan) == skips


def add_one(workshop: Workshop, number: int) -> None:
    with contextlib.closing(sqlite3.connect(workshop.folder / "sink.db")) as sink, sink:
        sink.execute("INSERT INTO arrivals VALUES (?, 1, 2, 3)", (number,))


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_rows_with_a_prediction_by_this_artifact_are_not_read(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    predicts_what_is_missing(workshop, monkeypatch, mode)
    assert collected(workshop) == 2
    add_one(workshop, 3)
    assert collected(workshop) == 1
    assert collected(workshop) == 0
    assert [row["id"] for row in workshop.predictions()] == [1, 2, 3]
    artifact = workshop.folder / "churn.skops"
    artifact.write_bytes(artifact.read_bytes() + b"\0")  # still loads: a zip archive ends where it says
    assert collected(workshop) == 3


def test_keys_of_another_model_with_the_same_artifact_and_table_are_read(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two regions, each with customers of its own, numbered from 1."""
    predicts_what_is_missing(workshop, monkeypatch, "append")
    entry = workshop.models["churn"]
    workshop.add_model("west", source=entry["source"], sink=entry["sink"])
    for name, found in (("churn", 2), ("west", 2), ("churn", 0), ("west", 0)):
        dispatch = workshop.dispatch(name)
        workshop.run(dispatch)
        assert workshop.record(dispatch.id).rows_persisted == found, name
    stored = workshop.in_sink("SELECT id, model FROM churn_predictions ORDER BY model, id")
    assert stored == [(1, "churn"), (2, "churn"), (1, "west"), (2, "west")]


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_key_that_only_the_collation_of_the_sink_has_seen_is_read(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    way = sqlite_way(tmp_path) if kind == "sqlite" else duckdb_way(tmp_path)
    monkeypatch.setenv("AIRFLOW_CONN_SOURCE", way.airflow_connection)
    answers = "".join(f"probability_{label} DOUBLE, " for label in workshop.classifier.classes_)
    way.execute(
        "CREATE TABLE people (id VARCHAR, a DOUBLE, b DOUBLE, c DOUBLE)",
        "INSERT INTO people VALUES ('Ann', 1, 2, 3), ('Zoe', 1, 2, 3)",
        f"CREATE TABLE churn_predictions (id VARCHAR COLLATE NOCASE, prediction VARCHAR, {answers}"
        "dispatch_id VARCHAR, model VARCHAR, artifact_sha256 VARCHAR, predicted_at TIMESTAMP)",
    )
    workshop.add_model(
        "churn",
        source={"query": "SELECT id, a, b, c FROM people", "skip_predicted": True},
        sink={"connection": "source", "mode": "append"},
    )
    assert collected(workshop) == 2
    way.execute("INSERT INTO people VALUES ('ann', 1, 2, 3)")
    assert [collected(workshop), collected(workshop)] == [1, 0]
    assert way.stored("id", "churn_predictions") == [("Ann",), ("Zoe",), ("ann",)]


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_dispatch_that_runs_again_reads_its_own_rows_again(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    predicts_what_is_missing(workshop, monkeypatch, mode)
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    workshop.run(dispatch)
    assert workshop.record(dispatch.id).rows_persisted == 2
    assert [row["id"] for row in workshop.predictions()] == [1, 2]


def test_row_limit_works_through_what_is_missing(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    predicts_what_is_missing(workshop, monkeypatch, "upsert")
    assert [collected(workshop, row_limit=1) for _ in range(3)] == [1, 1, 0]


# What was rejected is not read again either


def rejects(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Of two rows the second is too large; a third comes later."""
    predicts_what_is_missing(workshop, monkeypatch, "upsert")
    workshop.in_sink("UPDATE arrivals SET a = 1000 WHERE id = 2")
    contract = {"input": {"columns": {"a": {"max": 100}}}, "error_threshold": 1, **changes}
    workshop.add_model("churn", **{**workshop.models["churn"], **contract})


def refused(workshop: Workshop) -> list[Any]:
    return workshop.in_sink("SELECT id, released_by IS NOT NULL FROM churn_predictions_quarantine")


def test_a_rejected_row_is_rejected_once_and_not_by_every_dispatch(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejects(workshop, monkeypatch)
    assert collected(workshop) == 2
    add_one(workshop, 3)
    assert [collected(workshop), collected(workshop)] == [1, 0]
    assert refused(workshop) == [(2, 0)]


def test_rejected_rows_do_not_stand_in_the_way_of_a_row_limit(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejects(workshop, monkeypatch)
    workshop.in_sink("UPDATE arrivals SET a = 1000 - id")
    add_one(workshop, 3)
    assert [collected(workshop, row_limit=1) for _ in range(4)] == [1, 1, 1, 0]
    assert [row["id"] for row in workshop.predictions()] == [3]


@pytest.mark.parametrize("change", ["contract", "types", "artifact"])
def test_another_contract_or_artifact_judges_rejected_rows_again(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    rejects(workshop, monkeypatch)
    assert [collected(workshop), collected(workshop)] == [2, 0]
    if change == "contract":
        columns = {"columns": {"a": {"max": 2000}}}
        workshop.add_model("churn", **{**workshop.models["churn"], "input": columns})
        assert collected(workshop) == 1
        assert [row["id"] for row in workshop.predictions()] == [1, 2]
    elif change == "types":
        said = {"format": "skops", "uri": "churn.skops", "dtypes": {"a": "float32"}}
        workshop.add_model("churn", **{**workshop.models["churn"], "model": said})
        assert [collected(workshop), collected(workshop)] == [2, 0]  # also what was predicted
    else:
        artifact = workshop.folder / "churn.skops"
        artifact.write_bytes(artifact.read_bytes() + b"\0")
        assert collected(workshop) == 2


def test_another_baseline_in_the_signature_judges_rejected_rows_again(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workshop.folder / "churn.skops"
    write_signature(workshop.classifier, workshop.frame([[1, 2, 3], [3, 2, 1], [0, 1, 2]]), str(path))
    rejects(workshop, monkeypatch, input={"baseline": True})
    assert [collected(workshop), collected(workshop)] == [2, 0]
    assert refused(workshop) == [(2, 0)]
    signature = path.with_name("churn.skops.signature.json")
    content = json.loads(signature.read_text())
    content["baseline"]["made_at"] = "2031-01-01T00:00:00+00:00"
    signature.write_text(json.dumps(content))
    assert [collected(workshop), collected(workshop)] == [1, 0]


def test_rejected_rows_are_those_of_the_baseline_that_judged_them(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workshop.folder / "churn.skops"
    write_signature(workshop.classifier, workshop.frame([[1, 2, 3], [3, 2, 1], [0, 1, 2]]), str(path))
    signature = json.loads(path.with_name("churn.skops.signature.json").read_text())
    path.with_name("churn.skops.signature.json").unlink()
    baseline = path.with_name("churn.skops.baseline.json")
    baseline.write_text(json.dumps(signature["baseline"]))
    rejects(workshop, monkeypatch, input={"baseline": True})
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer")
    signature["baseline"]["features"]["a"]["max"] = 5000.0  # edited by hand, so it keeps its time
    baseline.write_text(json.dumps(signature["baseline"]))
    workshop.run_steps(dispatch, "persist")
    assert workshop.record(dispatch.id).rows_rejected == 1
    assert [collected(workshop), collected(workshop)] == [1, 0]
    assert [row["id"] for row in workshop.predictions()] == [1, 2]


def test_a_threshold_that_fails_a_dispatch_fails_the_next_one_too(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejects(workshop, monkeypatch, error_threshold=0)
    for _ in range(2):
        with pytest.raises(ThresholdError, match="1 of 2 rows"):
            collected(workshop)


def test_a_repaired_row_comes_back_by_a_dispatch_over_the_quarantine(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejects(workshop, monkeypatch)
    assert collected(workshop) == 2
    workshop.in_sink("UPDATE arrivals SET a = 1 WHERE id = 2")
    assert collected(workshop) == 0
    assert collected(workshop, is_quarantined=True) == 1
    assert refused(workshop) == [(2, 1)]
    assert [row["id"] for row in workshop.predictions()] == [1, 2]


def test_a_cleared_dispatch_rejects_its_own_rows_again(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejects(workshop, monkeypatch)
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    workshop.run(dispatch)
    record = workshop.record(dispatch.id)
    assert (record.rows_collected, record.rows_rejected, record.rows_persisted) == (2, 1, 1)
    assert refused(workshop) == [(2, 0)]


def test_artifact_that_changes_after_rows_were_left_out_is_not_logged(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicts_what_is_missing(workshop, monkeypatch, "upsert")
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect")
    artifact = workshop.folder / "churn.skops"
    artifact.write_bytes(artifact.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match="clear 'collect'"):
        workshop.run_steps(dispatch, "log")


def test_dispatch_over_quarantined_keys_ignores_the_mark_and_leaves_it(workshop: Workshop) -> None:
    cursor = {"column": "changed"}
    workshop.add_model(
        "churn",
        source={"query": QUERY, "cursor": cursor},
        input={"columns": {"a": {"nullable": False}}},
        error_threshold=1,
    )
    arrive(workshop, (1, 10), (2, 20), (3, 30))
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source, source:
        source.execute("UPDATE arrivals SET a = NULL WHERE id = 1")
    assert (collected(workshop), mark(workshop)) == (3, "30")
    with contextlib.closing(sqlite3.connect(workshop.folder / "source.db")) as source, source:
        source.execute("UPDATE arrivals SET a = 1 WHERE id = 1")
    assert (collected(workshop, is_quarantined=True), mark(workshop)) == (1, "30")
    assert [row["id"] for row in workshop.predictions()] == [1, 2, 3]
