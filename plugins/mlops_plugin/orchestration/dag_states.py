"""What Airflow knows of the models' DAGs; the only module that uses Airflow's own tables."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.configuration import conf
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.sdk import timezone
from fastapi import Depends
from sqlalchemy import ColumnElement, String, and_, func, or_, select
from sqlalchemy.orm import Session

from mlops_plugin.orchestration.dags_seen import is_dry_run

_RESUMED_WITHIN = timedelta(days=1)


@dataclass(frozen=True)
class DagState:
    """One DAG as Airflow's scheduler sees it; times are aware UTC.

    The last run is the newest that counts: neither backfills nor dry runs do.
    """

    dag_id: str
    is_paused: bool
    is_stale: bool  # its file no longer makes it
    next_data_interval_start: datetime | None
    next_data_interval_end: datetime | None
    next_run_after: datetime | None  # when the scheduler will start the next run
    last_run_id: str | None
    last_run_state: str | None  # queued, running, success, failed
    last_run_after: datetime | None  # when it was due
    last_run_start: datetime | None
    last_run_end: datetime | None
    resumed_at: datetime | None = None  # if it is due, and was switched on within a day


class AirflowState:
    """Reads Airflow's tables within one request."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def dags(self, dag_ids: Iterable[str]) -> dict[str, DagState]:
        """The state of each DAG that Airflow knows, by id.

        Three queries, however many there are, and one more if the newest run of one is a dry run.
        """
        wanted, now = list(dag_ids), timezone.utcnow()
        runs = self._last_runs(wanted)
        found = self._session.scalars(select(DagModel).where(DagModel.dag_id.in_(wanted)))
        states = {dag.dag_id: _state(dag, runs.get(dag.dag_id)) for dag in found}
        due = [state.dag_id for state in states.values() if _is_due(state, now)]
        resumed = self._resumptions(due, since=now - _RESUMED_WITHIN) if due else {}
        return states | {name: replace(states[name], resumed_at=at) for name, at in resumed.items()}

    def _resumptions(self, dag_ids: list[str], *, since: datetime) -> dict[str, datetime]:
        """When DAGs that are active now were last switched, from Airflow's audit log.

        Its REST API and its pages write `patch_dag`, its command line `cli_dag_unpause`. Many DAGs switched
        with one request are logged without their ids.
        """
        is_switch = or_(
            and_(Log.event == "patch_dag", Log.extra.contains("is_paused")), Log.event == "cli_dag_unpause"
        )
        found = self._session.execute(
            select(Log.dag_id, func.max(Log.dttm))
            .where(Log.dag_id.in_(dag_ids), Log.dttm >= since, is_switch)
            .group_by(Log.dag_id)
        )
        return {dag_id: at for dag_id, at in found if dag_id is not None and at is not None}

    def updated_assets(self, names: Collection[str]) -> frozenset[str]:
        """Those of the assets that a task of some DAG updates, or that have been updated at least once."""
        is_updated = AssetModel.producing_tasks.any() | AssetModel.id.in_(select(AssetEvent.asset_id))
        found = self._session.scalars(select(AssetModel.name).where(AssetModel.name.in_(names), is_updated))
        return frozenset(found)

    def _last_runs(self, dag_ids: list[str]) -> dict[str, DagRun]:
        runs = self._newest_runs(dag_ids)
        dry = [dag_id for dag_id, run in runs.items() if is_dry_run(run.conf)]
        if not dry:
            return runs
        before = self._newest_runs(dry, _is_no_dry_run())
        return {dag_id: run for dag_id, run in runs.items() if dag_id not in dry} | before

    def _newest_runs(self, dag_ids: list[str], *those: ColumnElement[bool]) -> dict[str, DagRun]:
        newest = (
            select(DagRun.dag_id, func.max(DagRun.id).label("id"))
            .where(DagRun.dag_id.in_(dag_ids), DagRun.run_type != "backfill", *those)
            .group_by(DagRun.dag_id)
            .subquery()
        )
        found = self._session.scalars(select(DagRun).join(newest, DagRun.id == newest.c.id))
        return {run.dag_id: run for run in found}


@contextlib.contextmanager
def own_airflow_state() -> Iterator[AirflowState]:
    """The same outside of a request, in a process that may open Airflow's database."""
    from airflow.utils.session import create_session

    with create_session() as session:
        yield AirflowState(session)


def team_of(dag_id: str) -> str | None:
    """The team that a DAG belongs to if Airflow runs for several teams; else None."""
    if not conf.getboolean("core", "multi_team", fallback=False):
        return None
    team: str | None = DagModel.get_team_name(dag_id)
    return team


def _is_due(state: DagState, now: datetime) -> bool:
    is_past = state.next_run_after is not None and state.next_run_after <= now
    return not state.is_paused and (is_past or state.last_run_state == "queued")


def _is_no_dry_run() -> ColumnElement[bool]:
    """By the text of its parameters, which all databases write alike; reads them for each run."""
    return or_(DagRun.conf.is_(None), DagRun.conf.cast(String).not_like('%"dry_run": true%'))


def _state(dag: DagModel, run: DagRun | None) -> DagState:
    return DagState(
        dag_id=dag.dag_id,
        is_paused=bool(dag.is_paused),
        is_stale=bool(dag.is_stale),
        next_data_interval_start=dag.next_dagrun_data_interval_start,
        next_data_interval_end=dag.next_dagrun_data_interval_end,
        next_run_after=dag.next_dagrun_create_after,
        last_run_id=run.run_id if run else None,
        last_run_state=str(getattr(run.state, "value", run.state)) if run else None,
        last_run_after=run.run_after if run else None,
        last_run_start=run.start_date if run else None,
        last_run_end=run.end_date if run else None,
    )


def airflow_state(session: SessionDep) -> AirflowState:
    """Dependency of routes that need to know what Airflow knows."""
    return AirflowState(session)


AirflowStateDep = Annotated[AirflowState, Depends(airflow_state)]
