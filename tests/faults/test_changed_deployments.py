"""A configuration that changes while a dispatch is under way, and sinks that lose what they held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_plugin.cli import main
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import PredictionsGone, StagingOutdated
from mlops_plugin.events import tables
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.reading.mark_keeping import set_by_hand
from support.order_tables import copy_file
from support.paused_steps import step
from support.workshop import Workshop

CURSOR = {"cursor": {"column": "id"}}
NARROW = "churn_predictions_rows"


def as_configured(workshop: Workshop, dispatch: Dispatch) -> Dispatch:
    return replace(dispatch, model=workshop.model())


def query_of(model: ModelConfig) -> str:
    return model.source.query


def run_new(workshop: Workshop) -> Dispatch:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log", "infer", "persist")
    return dispatch


@pytest.mark.parametrize(
    "changes", [{"source": CURSOR, "sink": {"table": "other"}}, {"sink": {"mode": "replace"}}]
)
def test_rows_that_were_new_for_one_sink_are_not_written_as_all_of_another(
    workshop: Workshop, changes: dict[str, Any]
) -> None:
    workshop.add_model("churn", source=CURSOR)
    run_new(workshop)
    workshop.add_rows(5)
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect")
    workshop.add_model("churn", **changes)
    with pytest.raises(StagingOutdated, match=r"sink.*clear 'collect'"):
        workshop.run_steps(as_configured(workshop, dispatch), "log")
    workshop.add_model("churn", source=CURSOR)
    run_new(workshop)
    assert len(workshop.predictions()) == 10


def test_partitions_that_were_collected_for_two_sinks_are_not_put_together(workshop: Workshop) -> None:
    partitions = {"partitions": {"column": "id", "count": 2}}
    workshop.add_model("churn", source=partitions)
    dispatch = workshop.dispatch()
    step(workshop, dispatch, "plan")
    step(workshop, dispatch, "collect", partition=0)
    workshop.add_model("churn", source=partitions, sink={"table": "other"})
    step(workshop, as_configured(workshop, dispatch), "collect", partition=1)
    with pytest.raises(StagingOutdated, match="clear 'plan'"):
        step(workshop, as_configured(workshop, dispatch), "log")


def test_partitions_that_were_held_to_two_baselines_are_not_put_together(workshop: Workshop) -> None:
    partitions = {"partitions": {"column": "id", "count": 2}}
    workshop.add_model("churn", source=partitions, input={"baseline": True}, error_threshold=5)
    assert main(["baseline", "churn"]) == 0
    dispatch = workshop.dispatch()
    step(workshop, dispatch, "plan")
    for partition in range(2):
        step(workshop, dispatch, "collect", partition=partition)
    step(workshop, dispatch, "log")
    step(workshop, dispatch, "infer", partition=0)
    assert main(["baseline", "churn", "--query", "SELECT id, a, b, c FROM customers WHERE id < 4"]) == 0
    step(workshop, dispatch, "infer", partition=1)
    with pytest.raises(StagingOutdated, match=r"baseline: it was exchanged.*clear 'infer'"):
        step(workshop, dispatch, "persist")
    step(workshop, dispatch, "infer", 2, partition=0)
    step(workshop, dispatch, "persist", 2)
    assert workshop.record(dispatch.id).state == "succeeded"


def drop(workshop: Workshop) -> None:
    workshop.in_sink("DROP VIEW churn_predictions", f"DROP TABLE {NARROW}")


def restore(workshop: Workshop) -> None:
    copy_file(workshop.folder / "saved.db", workshop.folder / "sink.db")


@pytest.mark.parametrize("lose", [drop, restore])
def test_sink_that_lost_rows_before_the_watermark_gets_none_behind_it_until_somebody_decides(
    workshop: Workshop, lose: Callable[[Workshop], None]
) -> None:
    workshop.add_model("churn", source=CURSOR)
    run_new(workshop)
    copy_file(workshop.folder / "sink.db", workshop.folder / "saved.db")
    workshop.add_rows(3)
    run_new(workshop)
    lose(workshop)
    workshop.add_rows(3)
    late = workshop.dispatch()
    workshop.run_steps(late, "collect", "log", "infer")
    for _ in range(2):
        with pytest.raises(PredictionsGone, match="mlops cursor churn --reset"):
            workshop.run_steps(late, "persist")
    set_by_hand(workshop.model(), workshop.deployment, None, render=query_of, user="ann")
    workshop.run_steps(late, "persist")
    run_new(workshop)
    assert len(workshop.predictions()) == 11


def test_sink_that_somebody_emptied_on_purpose_goes_on_behind_the_watermark(workshop: Workshop) -> None:
    workshop.add_model("churn", source=CURSOR)
    run_new(workshop)
    drop(workshop)
    workshop.add_rows(3)
    set_by_hand(workshop.model(), workshop.deployment, "5", render=query_of, user="ann")
    run_new(workshop)
    assert len(workshop.predictions()) == 4


def test_source_that_lost_its_newest_rows_is_told_of(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.add_model("churn", source=CURSOR)
    run_new(workshop)
    run_new(workshop)
    assert "mlops cursor" not in caplog.text
    workshop.in_source("DELETE FROM customers WHERE id > 3", "INSERT INTO customers VALUES (4, 9, 9, 9)")
    run_new(workshop)
    assert "mlops cursor churn --set VALUE" in caplog.text
    caplog.clear()
    workshop.in_source("DELETE FROM customers")
    run_new(workshop)
    assert "mlops cursor" not in caplog.text


def test_view_that_alone_was_dropped_is_made_again(workshop: Workshop) -> None:
    workshop.add_model("churn", source=CURSOR)
    run_new(workshop)
    workshop.in_sink("DROP VIEW churn_predictions")
    workshop.add_rows(3)
    run_new(workshop)
    assert len(workshop.predictions()) == 8


def test_rows_in_a_table_count_also_if_their_dispatch_could_not_be_registered(workshop: Workshop) -> None:
    workshop.add_model("churn", source=CURSOR)
    run_new(workshop)
    workshop.in_sink("CREATE TABLE wide AS SELECT * FROM churn_predictions")
    drop(workshop)
    workshop.in_sink("ALTER TABLE wide RENAME TO churn_predictions", "DELETE FROM mlops_dispatches")
    workshop.add_rows(3)
    run_new(workshop)
    assert len(workshop.predictions()) == 8


def test_predictions_of_an_earlier_version_need_no_entry(workshop: Workshop) -> None:
    workshop.add_model("churn", source=CURSOR)
    run_new(workshop)
    workshop.in_sink("DELETE FROM mlops_dispatches")
    workshop.add_rows(3)
    with pytest.raises(PredictionsGone):
        run_new(workshop)
    as_version_0_1_has_recorded = sa.update(tables.dispatches).values(rows_superseded=None)
    with workshop.deployment.event_store() as store:
        store.write("updating", lambda connection: connection.execute(as_version_0_1_has_recorded))
    run_new(workshop)
    assert workshop.in_sink(f"SELECT count(*) FROM {NARROW}") == [(8,)]


def test_after_a_restore_cleared_dispatches_bring_back_what_is_gone_in_their_order_only(
    workshop: Workshop,
) -> None:
    workshop.add_model("churn", source=CURSOR)
    run_new(workshop)
    copy_file(workshop.folder / "sink.db", workshop.folder / "saved.db")
    workshop.add_rows(2)
    second = run_new(workshop)
    workshop.add_rows(2)
    third = run_new(workshop)
    restore(workshop)
    with pytest.raises(PredictionsGone, match=second.id):
        workshop.run_steps(third, "collect", "log", "infer", "persist")
    workshop.run_steps(second, "collect", "log", "infer", "persist")
    workshop.run_steps(third, "collect", "log", "infer", "persist")
    assert [row["id"] for row in workshop.predictions()] == [*range(1, 10)]


def test_dispatch_that_wrote_nothing_hides_no_loss_before_it(workshop: Workshop) -> None:
    rules = {"input": {"columns": {"a": {"max": 100}}}, "error_threshold": 1}
    workshop.add_model("churn", source=CURSOR, **rules)
    run_new(workshop)
    workshop.in_source("INSERT INTO customers VALUES (6, 1000, 0, 0)")
    assert workshop.record(run_new(workshop).id).rows_rejected == 1
    drop(workshop)
    workshop.add_rows(1)
    with pytest.raises(PredictionsGone):
        run_new(workshop)
