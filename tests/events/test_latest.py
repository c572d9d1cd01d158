"""The last dispatch of each of many models; on every engine."""

from __future__ import annotations

from dataclasses import replace

from mlops_plugin.events.latest import RecentDispatch, latest_dispatches, recent_dispatches
from mlops_plugin.events.records import Origin
from mlops_plugin.events.store import EventStore
from support.event_stories import new_identity


def begin(
    store: EventStore, model: str, dispatch_id: str, origin: Origin = "scheduled", *, dry_run: bool = False
) -> None:
    identity = replace(new_identity(), model=model, dispatch_id=dispatch_id, origin=origin, dry_run=dry_run)
    store.begin(identity)


def test_each_model_has_its_newest_dispatch_and_those_that_write_nothing_do_not_count(
    store: EventStore,
) -> None:
    begin(store, "churn", "a")
    begin(store, "churn", "b")
    begin(store, "churn", "c", "showroom")
    begin(store, "churn", "dry", "terminal", dry_run=True)
    begin(store, "Churn", "d", "terminal")
    begin(store, "tried only", "e", "showroom")
    begin(store, "not asked for", "f")

    found = latest_dispatches(store, ["churn", "Churn", "tried only", "never begun"])
    assert {name: record.dispatch_id for name, record in found.items()} == {"churn": "b", "Churn": "d"}
    assert found["churn"] == store.get("b")
    assert latest_dispatches(store, []) == {}


def test_no_model_of_hundreds_is_left_out(store: EventStore) -> None:
    begin(store, "model_0", "first")
    begin(store, "model_99", "second")
    begin(store, "model_100", "third")
    begin(store, "model_249", "last")

    found = latest_dispatches(store, [f"model_{number}" for number in range(250)])
    assert sorted(record.dispatch_id for record in found.values()) == ["first", "last", "second", "third"]


def test_a_models_last_dispatches_end_with_the_newest(store: EventStore) -> None:
    for number in range(5):
        begin(store, "churn", f"d{number}")
    store.finish("d3", collected=7, predicted=6, rejected=1, persisted=6)
    begin(store, "churn", "tried", "showroom")
    begin(store, "churn", "dry", dry_run=True)
    begin(store, "loans", "x")
    found = recent_dispatches(store, ["churn", "loans", "never begun"], each=3)
    seen = {
        model: [(one.dispatch_id, one.state, one.rows_predicted) for one in several]
        for model, several in found.items()
    }
    assert seen == {
        "churn": [("d2", "running", None), ("d3", "succeeded", 6), ("d4", "running", None)],
        "loans": [("x", "running", None)],
    }
    assert found["loans"] == [RecentDispatch("x", "running", found["loans"][0].created_at, None)]
    assert recent_dispatches(store, [], each=3) == {}
