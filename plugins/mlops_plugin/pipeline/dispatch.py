"""What a dispatch is: its identity, its steps and its options.

Tasks of a DAG run, the terminal and the Showroom make one and pass it to `pipeline.step_runner`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.events.records import DispatchIdentity, Origin, Step

STEPS: tuple[Step, ...] = ("collect", "log", "infer", "persist")
# Those that work on one partition at a time, if a dispatch has any; `plan` comes before them all.
PARTITIONED: frozenset[Step] = frozenset({"collect", "infer"})

# Airflow's run types in this project's words; a type that is not here counts as manual.
_ORIGIN_OF_RUN_TYPE: Mapping[str, Origin] = {
    "scheduled": "scheduled",
    "backfill": "backfill",
    "asset_triggered": "asset",
    "asset_materialization": "asset",
}

# Names dispatches of DAG runs: the same run always has the same id, whichever task or try asks.
_NAMESPACE = uuid.UUID("6f1f2c1e-7c55-5d2c-9c43-0c5f6f2d9a11")


@dataclass(frozen=True)
class Dispatch:
    """One execution of a model. `data_interval` is (start, end), both aware like `logical_date`."""

    id: str
    model: ModelConfig
    origin: Origin
    requested_by: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    data_interval: tuple[datetime, datetime] | None = None
    logical_date: datetime | None = None  # from which `ds` and the like are made in the query
    row_limit: int | None = None
    is_dry_run: bool = False
    is_quarantined: bool = False  # only rows whose keys are in quarantine
    reads_own_interval: bool = False  # of a model with a cursor: the data interval, not what is new
    overwrites_newer: bool = False  # also predictions of rows that were read later

    @property
    def reads_from_mark(self) -> bool:
        """Whether it reads the rows behind its model's watermark."""
        return self.model.source.cursor is not None and not (self.reads_own_interval or self.is_quarantined)

    @property
    def moves_mark(self) -> bool:
        """Whether its success means that everything up to its last row is persisted."""
        return self.reads_from_mark and self.row_limit is None and not self.is_dry_run

    @property
    def identity(self) -> DispatchIdentity:
        """This dispatch in the event store's words."""
        start, end = self.data_interval or (None, None)
        return DispatchIdentity(
            dispatch_id=self.id,
            model=self.model.name,
            origin=self.origin,
            requested_by=self.requested_by,
            dag_id=self.dag_id,
            run_id=self.run_id,
            data_interval_start=start,
            data_interval_end=end,
            dry_run=self.is_dry_run,
        )

    @property
    def limits(self) -> str:
        """What keeps it from dispatching all rows, in words; '' for nothing."""
        if self.row_limit is not None:
            return f"at most {self.row_limit} rows"
        return "the quarantined rows only" if self.is_quarantined else ""


def dispatch_id(dag_id: str, run_id: str) -> str:
    """The id (36 characters) of a DAG run's dispatch; equal for every task and every try of the run."""
    return str(uuid.uuid5(_NAMESPACE, f"{dag_id}\n{run_id}"))


def new_dispatch_id() -> str:
    """An id for a dispatch without a DAG run."""
    return str(uuid.uuid4())


def origin_of(run_type: str) -> Origin:
    """A DAG run's type (scheduled, manual, backfill, asset_triggered...) as an origin."""
    return _ORIGIN_OF_RUN_TYPE.get(run_type, "manual")
