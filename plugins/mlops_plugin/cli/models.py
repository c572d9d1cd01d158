"""`mlops models`: each model with its state, schedule and last dispatch, as the Monitor shows them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlops_plugin.cli.airflow_knowledge import dag_states
from mlops_plugin.errors import EventStoreError
from mlops_plugin.events.latest import latest_dispatches
from mlops_plugin.events.tries import read_openings
from mlops_plugin.monitoring.model_state import last_dispatch, model_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_plugin.config.loader import LoadedConfig
    from mlops_plugin.events.records import DispatchRecord
    from mlops_plugin.orchestration.dag_states import DagState
    from mlops_plugin.pipeline.deployment import Deployment

_UNKNOWN = "-"


def print_models(loaded: LoadedConfig, deployment: Deployment, *, output: str) -> None:
    """Print all models, by name, as a table or as JSON (null: not known)."""
    names = sorted({*loaded.config.models, *loaded.broken})
    dags, trouble = dag_states(names), None
    last: Mapping[str, DispatchRecord] | None = None
    opened: Mapping[str, datetime] = {}
    try:
        with deployment.event_store() as store:
            last = latest_dispatches(store, names)
            opened = read_openings(store, last.values())
    except EventStoreError as error:
        trouble = str(error)
    rows = [_row(loaded, name, dags, last, opened) for name in names]
    if output == "json":
        print(json.dumps(rows, indent=2))
        return
    _print_table(rows)
    for fault in loaded.faults:  # the names of its models may be unknown
        print(fault)
    if dags is None:
        print("Airflow's database is not there: nothing is known of paused models and runs")
    if trouble is not None:
        print(f"last dispatches are not known: {trouble}")


def _row(
    loaded: LoadedConfig,
    name: str,
    dags: Mapping[str, DagState] | None,
    last: Mapping[str, DispatchRecord] | None,
    opened: Mapping[str, datetime],
) -> dict[str, Any]:
    model, dag = loaded.config.models.get(name), (dags or {}).get(name)
    dispatch = last_dispatch(dag, (last or {}).get(name))
    row: dict[str, Any] = {
        "model": name,
        "paused": dag.is_paused if dag else None,
        "schedule": str(model.schedule) if model and model.schedule else None,
        "last_dispatch": dispatch.state if dispatch else None,
        "started": dispatch.created_at.isoformat(timespec="seconds") if dispatch else None,
        "rows": dispatch.rows_persisted if dispatch else None,
        "health": None,
        "why": None,
    }
    problem = str(loaded.broken[name][0]) if name in loaded.broken else None
    if problem is not None or (dags is not None and last is not None):
        late_after = loaded.config.monitor.late_after
        limit = model.dispatch_timeout if model else None
        state = model_state(
            dag,
            dispatch,
            datetime.now(UTC),
            late_after=late_after,
            limit=limit,
            problem=problem,
            opened_at=opened.get(dispatch.dispatch_id) if dispatch else None,
        )
        row |= {"health": state.word, "why": state.why}
    return row


def _print_table(rows: list[dict[str, Any]]) -> None:
    titles = ("model", "paused", "schedule", "last_dispatch", "started", "rows", "health")
    cells = [titles, *(tuple(_cell(row[title]) for title in titles) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(titles))]
    for number, line in enumerate(cells):
        print(" | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
        if number == 0:
            print("=+=".join("=" * width for width in widths))


def _cell(value: Any) -> str:
    return _UNKNOWN if value is None else str(value)
