"""The demo in `make up`: one successful dispatch of each of its models, and what came of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from local_stack.airflow_api import AirflowApi, ServerFailed, TimedOut, Unreachable
from local_stack.layout import Layout
from local_stack.progress import LocalStackError, step
from local_stack.supervision import Supervisor

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.events.records import DispatchRecord
    from mlops_plugin.events.store import EventStore

SOURCE = "demo_source"  # what reads from here belongs to the demo
PARSED_WITHIN_S = 180.0
DISPATCHED_WITHIN_S = 600.0
STARTED_WITHIN_S = 60.0  # after which a run is started that neither a schedule nor another model has started
ACTIVE = ("queued", "running")


def show_demo(api: AirflowApi, layout: Layout, supervisor: Supervisor) -> None:
    """Dispatch each demo model that has no dispatch yet, wait for all, and print where their predictions are.

    Airflow's settings must stand in this process's environment.
    """
    from mlops_plugin.config.loader import load_config
    from mlops_plugin.pipeline.deployment import Deployment

    loaded = load_config(layout.checkout / "include" / "config.yaml")
    models = {
        name: model for name, model in loaded.config.models.items() if model.source.connection == SOURCE
    }
    _wait_until_parsed(api, set(models), supervisor)
    deployment = Deployment.of_airflow(loaded.config.events, loaded.config.staging)
    with deployment.event_store() as events:
        _dispatch_missing(api, events, models, layout, supervisor)
        print(f"\n{_table(events, models, layout)}", flush=True)


def _wait_until_parsed(api: AirflowApi, wanted: set[str], supervisor: Supervisor) -> None:
    deadline = time.monotonic() + PARSED_WITHIN_S
    missing = wanted
    with step("waiting for the DAGs") as tick:
        while missing and time.monotonic() < deadline:
            supervisor.check()
            with contextlib.suppress(Unreachable):  # an API server that was just started again
                missing = wanted - api.dag_ids()
            if missing:
                tick(f"{len(missing)} to come")
                time.sleep(1)
    for error in api.import_errors():
        print(f"\nAirflow cannot import {error}\n", flush=True)
    if missing:
        raise LocalStackError(
            f"no DAG of {', '.join(sorted(missing))} after {PARSED_WITHIN_S:.0f} s; "
            "see .local/logs/dag-processor.log"
        )


def _dispatch_missing(
    api: AirflowApi,
    events: EventStore,
    models: Mapping[str, ModelConfig],
    layout: Layout,
    supervisor: Supervisor,
) -> None:
    waiting = {name for name in models if _last_success(events, name) is None}
    switch_on(api, {name: models[name] for name in sorted(waiting)})
    deadline = time.monotonic() + DISPATCHED_WITHIN_S
    active_at = time.monotonic()
    with step("waiting for one dispatch of each demo model") as tick:
        states = dict.fromkeys(waiting, "queued")
        while waiting:
            supervisor.check()
            with contextlib.suppress(Unreachable):
                states = {name: _run_state(api, name) for name in sorted(waiting)}
            waiting = {name for name in waiting if _last_success(events, name) is None}
            if failed := [name for name in waiting if states[name] == "failed"]:
                raise LocalStackError(_why(events, failed[0], layout))
            if waiting and time.monotonic() > deadline:
                raise LocalStackError(
                    f"no successful dispatch of {', '.join(sorted(waiting))} "
                    f"within {DISPATCHED_WITHIN_S:.0f} s; "
                    f"the tasks' logs: {layout.airflow_home / 'logs'}"
                )
            if any(states[name] in ACTIVE for name in waiting):
                active_at = time.monotonic()
            elif time.monotonic() > active_at + STARTED_WITHIN_S:  # waits for what will not come
                with contextlib.suppress(Unreachable):
                    for name in sorted(waiting):
                        start_run(api, name)
            tick(", ".join(f"{name} {states[name]}{_trouble(events, name)}" for name in sorted(waiting)))
            time.sleep(1)


def switch_on(api: AirflowApi, models: Mapping[str, ModelConfig]) -> None:
    """Switch models on. Their schedules start their first runs; one is started only where none would come.

    One started by hand beside it could be the first of the two to read, with the later data interval: the
    other one's predictions would be superseded, and the demo would show a dispatch without any.
    """
    to_come = {name for name, model in models.items() if model.schedule and _run_state(api, name) == "none"}
    for name in models:
        api.unpause(name)
    for name in models:
        if name not in to_come:
            start_run(api, name)


def start_run(api: AirflowApi, dag_id: str) -> None:
    """Start a run of a DAG, unless one is active.

    On SQLite, two requests of Airflow's server may wait for each other until both fail: it is asked again.
    """
    for is_last in (False, False, True):
        if _run_state(api, dag_id) in ACTIVE:
            return
        try:
            api.trigger(dag_id)
        except (ServerFailed, TimedOut):
            if is_last:
                raise
        else:
            return


def _run_state(api: AirflowApi, dag_id: str) -> str:
    """`queued` or `running` while a run is active, else the state of the newest; `none` without a run."""
    states = [str(run["state"]) for run in api.runs(dag_id)]
    return next((state for state in states if state in ACTIVE), states[0] if states else "none")


def _last_success(events: EventStore, model: str) -> DispatchRecord | None:
    """The newest dispatch that Airflow ran with success; a showroom or terminal dispatch proves less."""
    succeeded = events.dispatches(model=model, state="succeeded", limit=50)
    return next((dispatch for dispatch in succeeded if dispatch.dag_id), None)


def _trouble(events: EventStore, model: str) -> str:
    """What went wrong in a dispatch that Airflow is about to try again, if anything did."""
    newest = events.dispatches(model=model, limit=1)
    return f" ({newest[0].error})" if newest and newest[0].error else ""


def _why(events: EventStore, model: str, layout: Layout) -> str:
    newest = events.dispatches(model=model, limit=1)
    reason = newest[0].error if newest and newest[0].error else "it recorded no event"
    logs = layout.airflow_home / "logs" / f"dag_id={model}"
    return f"the dispatch of {model} failed: {reason}\nThe tasks' logs: {logs}"


def _table(events: EventStore, models: Mapping[str, ModelConfig], layout: Layout) -> str:
    rows = [("model", "rows", "seconds", "predictions are in")]
    for name, model in models.items():
        dispatch = _last_success(events, name)
        if dispatch is not None and dispatch.started_at and dispatch.finished_at:
            seconds = f"{(dispatch.finished_at - dispatch.started_at).total_seconds():.1f}"
            where = f"{_place(model.sink.connection, layout)}, table {model.sink.table}"
            rows.append((name, str(dispatch.rows_persisted), seconds, where))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}" for row in rows
    )


def _place(conn_id: str, layout: Layout) -> str:
    """Where a sink's connection leads: a file of this checkout by its path, anything else by its id."""
    from mlops_plugin.connections import get_connection

    connection = get_connection(conn_id)
    if (
        connection.conn_type == "sqlite"
        and connection.host
        and Path(connection.host).is_relative_to(layout.checkout)
    ):
        return str(Path(connection.host).relative_to(layout.checkout))
    return f"connection {conn_id}"
