"""What Airflow knows of the models' DAGs; the only module that uses Airflow's own tables."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.configuration import conf
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from fastapi import Depends
from sqlalchemy import func, select
from sqlalchemy.orm import Session


@dataclass(frozen=True)
class DagState:
    """One DAG as Airflow's scheduler sees it; times are aware UTC."""

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


class AirflowState:
    """Reads Airflow's tables within one request."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def dags(self, dag_ids: Iterable[str]) -> dict[str, DagState]:
        """The state of each DAG that Airflow knows, by id; two queries, however many there are."""
        wanted = list(dag_ids)
        runs = self._last_runs(wanted)
        found = self._session.scalars(select(DagModel).where(DagModel.dag_id.in_(wanted)))
        return {dag.dag_id: _state(dag, runs.get(dag.dag_id)) for dag in found}

    def updated_assets(self, names: Collection[str]) -> frozenset[str]:
        """Those of the assets that a task of some DAG updates, or that have been updated at least once."""
        is_updated = AssetModel.producing_tasks.any() | AssetModel.id.in_(select(AssetEvent.asset_id))
        found = self._session.scalars(select(AssetModel.name).where(AssetModel.name.in_(names), is_updated))
        return frozenset(found)

    def _last_runs(self, dag_ids: list[str]) -> dict[str, DagRun]:
        newest = (
            select(DagRun.dag_id, func.max(DagRun.id).label("id"))
            .where(DagRun.dag_id.in_(dag_ids), DagRun.run_type != "backfill")
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
