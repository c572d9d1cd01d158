"""What the Monitor knows, now and of the past, as typed records for the page and for JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mlops_plugin.events.health.incidents import IncidentState
from mlops_plugin.events.health.probes import ProbeState
from mlops_plugin.monitoring.model_state import ModelWord
from mlops_plugin.monitoring.probe_result import Outcome


class LastDispatch(BaseModel):
    dispatch_id: str
    state: Literal["running", "succeeded", "failed"]
    at: datetime = Field(description="When it ended; when it began if it has not ended.")
    error: str | None


class ModelStatus(BaseModel):
    """One model. `is_paused` is null if Airflow does not know its DAG."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    state: ModelWord
    why: str
    schedule: str = Field(description="In words.")
    tags: list[str]
    owner: str | None = Field(description="null if its configuration is broken.")
    is_paused: bool | None
    may_pause: bool = Field(description="Whether the caller may pause and resume it.")
    may_trigger: bool = Field(description="Whether the caller may dispatch it.")
    last: LastDispatch | None
    next_at: datetime | None
    next_in: str | None = Field(description="In words, e.g. `in 5 min`.")


class StepStatus(BaseModel):
    name: str
    address: str | None
    outcome: Outcome
    seconds: float
    said: str | None = Field(description="The message of the system or the driver.")


class ProbeStatus(BaseModel):
    """One host or database. `at` is the time of the result; null: no result yet."""

    id: str
    kind: Literal["host", "database"]
    name: str
    address: str
    state: Literal["up", "partly", "down", "unknown"]
    is_probing: bool
    at: datetime | None
    seconds: float | None = Field(description="Time to connect, by the fastest address.")
    day: list[float | None] = Field(
        description="Availability in each of the last 24 hours, oldest first; null: not probed."
    )
    availability: float | None = Field(description="In the last 24 hours; null: not probed.")
    steps: list[StepStatus]


class MonitorStatus(BaseModel):
    """Everything the Monitor shows. `problem`: why the last dispatches of the models are out of date."""

    at: datetime
    store_at: datetime = Field(
        description="The same by the event store's clock, by which dispatches are dated."
    )
    refresh_seconds: float
    models: list[ModelStatus]
    hosts: list[ProbeStatus]
    databases: list[ProbeStatus]
    problem: str | None


FAILED_PROBES = 100  # shown; enough to see what they have in common

Window = Literal["24 hours", "7 days", "30 days"]


class SpanStatus(BaseModel):
    """A stretch of time. Of each probe, `partly` means that some addresses of the host worked."""

    start: datetime
    up: int
    partly: int
    down: int
    seconds_mean: float | None = Field(description="Of the probes that succeeded.")
    seconds_max: float


class IncidentStatus(BaseModel):
    """`ended_at` is null while it lasts."""

    state: IncidentState = Field(description="Of a model also `late`, `missed` and `overrun`.")
    began_at: datetime
    ended_at: datetime | None
    ended_as: str | None = Field(description="The next state, or `no longer watched`; null while it lasts.")
    error: str | None


class FailedProbe(BaseModel):
    """A single probe that found its target down, or partly up; too few in a row make no incident."""

    at: datetime
    state: ProbeState
    error: str | None


class WindowStatus(BaseModel):
    window: Window
    availability: float | None = Field(description="Share of probes that succeeded, 0 to 1.")
    spans: list[SpanStatus]


class History(BaseModel):
    target: str
    name: str
    is_watched: bool = Field(description="False: it was removed from the configuration.")
    windows: list[WindowStatus]
    incidents: list[IncidentStatus]
    failed_probes: list[FailedProbe] = Field(
        description=f"The newest {FAILED_PROBES} that are still kept, newest first; none of a model."
    )
