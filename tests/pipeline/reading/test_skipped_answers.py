"""`skip_predicted` predicts rows again if a signature or setting beside the artifact may change answers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from mlops_plugin.errors import ArtifactChanged
from mlops_plugin.formats.signature.signature_writer import write_signature
from mlops_plugin.pipeline.reading.answering import answered_by
from support.servers import ServerDatabase
from support.workshop import Workshop

ROWS = [[n / 3, -n / 7, n * 0.1] for n in range(-20, 20)]
IDS = [1, 2, 3, 4, 5]


def sign(workshop: Workshop, dtype: str = "float64", count: int = 20) -> None:
    rows = workshop.frame([[float(value) for value in row] for row in ROWS[:count]])
    write_signature(workshop.classifier, rows.astype({"a": dtype}), workshop.folder / "churn.skops")


def skipping(workshop: Workshop, connection: str, mode: str, **model: object) -> None:
    workshop.add_model(
        "churn",
        model={"format": "skops", "uri": "churn.skops", **model},
        source={"connection": connection, "skip_predicted": True},
        sink={"connection": connection, "mode": mode},
    )


def collected(workshop: Workshop) -> int | None:
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    record = workshop.record(dispatch.id)
    assert record.rows_persisted == record.rows_collected
    return record.rows_collected


@pytest.mark.parametrize(("mode", "is_narrow"), [("append", False), ("append", True), ("upsert", True)])
def test_rows_that_another_signature_or_setting_has_predicted_are_read_again(
    on_server: tuple[Workshop, ServerDatabase], mode: str, is_narrow: bool
) -> None:
    workshop, database = on_server
    real = "DOUBLE" if database.engine == "mysql" else "DOUBLE PRECISION"
    values = ", ".join(f"({number}, 1, 2, 3)" for number in IDS)
    database.execute(
        f"CREATE TABLE customers (id BIGINT, a {real}, b {real}, c {real})",
        f"INSERT INTO customers VALUES {values}",
    )
    if not is_narrow:
        key = "dispatch_id, id" if mode == "append" else "id"
        time = "DATETIME(6)" if database.engine == "mysql" else "TIMESTAMPTZ"
        text = "VARCHAR(64) CHARACTER SET utf8mb4" if database.engine == "mysql" else "VARCHAR(64)"
        probabilities = "".join(f"probability_{label} {real}, " for label in workshop.classifier.classes_)
        database.execute(
            f"CREATE TABLE churn_predictions (id BIGINT, prediction {text}, {probabilities}"
            f"dispatch_id {text}, model {text}, artifact_sha256 {text}, predicted_at {time}, "
            f"PRIMARY KEY ({key}))"
        )
    skipping(workshop, "source", mode)
    assert [collected(workshop), collected(workshop)] == [5, 0]
    sign(workshop)
    assert [collected(workshop), collected(workshop)] == [5, 0]
    sign(workshop, count=30)  # other golden rows of the same input
    assert collected(workshop) == 0
    count = database.rows("SELECT COUNT(*) FROM churn_predictions")[0][0]
    assert count == (10 if mode == "append" else 5)


@pytest.fixture
def in_sqlite(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setenv("AIRFLOW_CONN_SINK", workshop.connections["source"])
    skipping(workshop, "source", "upsert")
    return workshop


def _in_source(workshop: Workshop, statement: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(workshop.folder / "source.db") as source:
        found = source.execute(statement).fetchall()
    source.close()
    return found


def test_predictions_of_an_earlier_version_count_for_the_settings_of_today(in_sqlite: Workshop) -> None:
    assert collected(in_sqlite) == 5
    _in_source(in_sqlite, "ALTER TABLE mlops_dispatches DROP COLUMN answered_by")
    sign(in_sqlite)
    assert [collected(in_sqlite), collected(in_sqlite)] == [0, 0]  # which adds the column
    in_sqlite.add_rows(1)
    assert collected(in_sqlite) == 1
    sign(in_sqlite, "float32")  # and no longer for those of tomorrow
    assert [collected(in_sqlite), collected(in_sqlite)] == [6, 0]


def test_without_the_right_to_add_the_column_it_is_shown(
    in_sqlite: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    assert collected(in_sqlite) == 5
    _in_source(in_sqlite, "ALTER TABLE mlops_dispatches DROP COLUMN answered_by")
    entry = in_sqlite.models["churn"]
    in_sqlite.add_model("churn", source=entry["source"], sink={**entry["sink"], "create": False})
    assert collected(in_sqlite) == 0
    assert 'ALTER TABLE "mlops_dispatches" ADD "answered_by"' in caplog.text


def test_a_signature_that_appears_after_rows_were_left_out_ends_the_dispatch(in_sqlite: Workshop) -> None:
    assert collected(in_sqlite) == 5
    in_sqlite.add_rows(1)
    dispatch = in_sqlite.dispatch()
    in_sqlite.run_steps(dispatch, "collect")
    sign(in_sqlite)
    with pytest.raises(ArtifactChanged, match=r"signature.*'collect'"):
        in_sqlite.run_steps(dispatch, "log")


def _with_libraries(workshop: Workshop, requirement: str) -> None:
    file = workshop.folder / "churn.txt"
    file.write_text(f"{requirement}\n")
    environment = {"requirements": file.name, "python": "3.11"}
    skipping(workshop, "source", "upsert", environment=environment)


def _imputing(workshop: Workshop, value: float) -> None:
    rule = {"nullable": False, "on_violation": "impute", "impute": value}
    workshop.add_model("churn", input={"columns": {"a": rule}})


@pytest.mark.parametrize(
    ("settle", "one", "other"),
    [
        (_with_libraries, "numpy==2.0.0", "numpy==2.1.0"),
        (_imputing, 1.0, 2.0),
        (
            lambda workshop, types: skipping(workshop, "source", "upsert", dtypes=types),
            None,
            {"a": "float32"},
        ),
    ],
    ids=["libraries", "imputed value", "types"],
)
def test_what_may_change_answers(
    workshop: Workshop, settle: Callable[[Workshop, object], None], one: object, other: object
) -> None:
    found = []
    for setting in (one, other, one):
        settle(workshop, setting)
        found.append(answered_by(workshop.model(), "0" * 64, None))
    assert found[0] == found[2] != found[1]


def test_classes_may_change_answers(workshop: Workshop) -> None:
    found = set()
    for classes in (["no", "yes"], ["yes", "no"]):
        workshop.add_model("churn", model={"format": "lightgbm", "uri": "churn.txt", "classes": classes})
        found.add(answered_by(workshop.model(), "0" * 64, None))
    assert len(found) == 2


def test_where_a_model_runs_changes_no_answer(workshop: Workshop) -> None:
    found = set()
    for isolation in ("process", "none"):
        skipping(workshop, "source", "upsert", isolation=isolation)
        found.add(answered_by(workshop.model(), "0" * 64, None))
    assert len(found) == 1
