"""What Airflow's metadata database says of models, for the terminal; None where there is no database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, TypeVar

from mlops_plugin.cli.airflow_context import has_metadata_database

if TYPE_CHECKING:
    from mlops_plugin.orchestration.dag_states import AirflowState, DagState

_T = TypeVar("_T")


def dag_states(dag_ids: Collection[str]) -> Mapping[str, DagState] | None:
    """The state of each DAG that Airflow knows, by id."""
    return _ask(lambda airflow: airflow.dags(dag_ids))


def updated_assets(names: Collection[str]) -> frozenset[str] | None:
    """Those of the assets that some task updates, or that have been updated."""
    return _ask(lambda airflow: airflow.updated_assets(names))


def _ask(question: Callable[[AirflowState], _T]) -> _T | None:
    if not has_metadata_database():
        return None
    from sqlalchemy.exc import DBAPIError

    from mlops_plugin.orchestration.dag_states import own_airflow_state

    try:
        with own_airflow_state() as airflow:
            return question(airflow)
    except DBAPIError:  # no server, or a database that nobody has migrated: nothing is known
        return None
