"""The DAG `mlops_monitor`, which probes for the history; called by dags/mlops_monitor.py at every parse.

Light on purpose, like `dag_factory`: what probing needs is imported when the task runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator

from mlops_plugin.config.loader import load_config, load_settings
from mlops_plugin.config.schedules import FixedSchedule, PeriodicSchedule
from mlops_plugin.config.schema import MONITOR_DAG_ID, ModelConfig, MonitorConfig
from mlops_plugin.masking import masked

if TYPE_CHECKING:
    from mlops_plugin.events.records import DispatchRecord
    from mlops_plugin.monitoring.model_state import DagSeen

_RECORDING = timedelta(minutes=2)  # loading drivers, asking Airflow, the event store, notifying
_DOCUMENTATION = """\
Probes the hosts and databases under `monitor:` in the configuration and records the results for the Monitor.
A host or database that is down does not fail this DAG.
"""


class ProbeOperator(BaseOperator):
    """One round of probes; its XCom says how many there were, and how many targets are not up."""

    ui_color = "#e8f0fe"

    def __init__(self, *, config_file: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config_file = config_file

    def execute(self, context: Any) -> dict[str, int]:
        """Probe, record, notify; fails if recording, a notifier or asking Airflow failed."""
        from airflow.sdk.exceptions import AirflowException

        from mlops_plugin.connections import get_connection
        from mlops_plugin.events.health.notices import Notices
        from mlops_plugin.events.store import EventStore
        from mlops_plugin.monitoring.recording import record_round
        from mlops_plugin.orchestration.notification import check_notifiers, notify_all
        from mlops_plugin.pipeline.recording.reconciliation import close_abandoned, close_removed
        from mlops_plugin.workers.patience import longest_silence

        loaded = load_config(Path(self.config_file))
        config = loaded.config
        home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()  # Airflow's own rule
        connection = get_connection(config.events.connection) if config.events.connection else None
        failures: list[str] = []
        with EventStore.open(config.events, connection, home) as store:
            done = record_round(loaded, store, home, partial(_ask_airflow, config.models, failures))
            for change in done.changes:
                name = done.names.get(change.target, change.target)
                self.log.info("%s: %s -> %s %s", name, change.before, change.after, change.error or "")
            # What changed in this round, and what a killed round did not report.
            lease = self.execution_timeout or _longest_round(config.monitor)
            failures += notify_all(Notices(store), config.monitor.notify, context, lease=lease)
            close_abandoned(store, longest_silence(config.serving))
            close_removed(store, loaded)
        # Even without a change: a wrong notifier must not stay unnoticed until the first incident.
        check_notifiers(config.monitor.notify)
        if failures:
            raise AirflowException("this round is incomplete:\n" + "\n".join(failures))
        down = sum(probe.state != "up" for probe in done.probes)
        return {"probes": len(done.probes), "not_up": down, "changes": len(done.changes)}


def _ask_airflow(
    models: Mapping[str, ModelConfig],
    failures: list[str],
    last: Mapping[str, DispatchRecord],
    now: datetime,
) -> Mapping[str, DagSeen]:
    """The models' DAGs; if Airflow does not answer, the probes are recorded all the same."""
    from airflow.sdk.exceptions import AirflowRuntimeError

    from mlops_plugin.orchestration.dags_seen import find_dags

    try:
        return find_dags(models, last, now)
    except AirflowRuntimeError as error:
        failures.append(f"the timing of the models could not be read from Airflow: {masked(str(error))}")
        return {}


def build_monitor_dags(path: Path) -> dict[str, DAG]:
    """The DAG by its id, or nothing if the configuration has no schedule for it. Raises `ConfigError`."""
    monitor = load_settings(path).monitor
    return {MONITOR_DAG_ID: build_monitor_dag(monitor, path)} if monitor.schedule else {}


def build_monitor_dag(monitor: MonitorConfig, path: Path) -> DAG:
    """The DAG with its one task. It is active from the start: without it there is no history."""
    with DAG(
        dag_id=MONITOR_DAG_ID,
        description="Probes hosts and databases for the Monitor's history",
        doc_md=_DOCUMENTATION,
        schedule=_schedule(monitor.schedule),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=["mlops"],
        # No retries: the next round comes soon, and continues from here.
        default_args={"retries": 0, "owner": "mlops"},
    ) as dag:
        ProbeOperator(
            task_id="probe",
            config_file=str(path),
            execution_timeout=_longest_round(monitor),
        )
    return dag


def _longest_round(monitor: MonitorConfig) -> timedelta:
    return 3 * monitor.timeout + _RECORDING


def _schedule(schedule: PeriodicSchedule | None) -> Any:
    return schedule.length if isinstance(schedule, FixedSchedule) else schedule and schedule.expression
