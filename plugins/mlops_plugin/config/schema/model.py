"""One entry under `models:`."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Self

from pydantic import (
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from mlops_plugin.config.parameter_types import NAME_PATTERN, Line, SomeColumnNames
from mlops_plugin.config.schema.artifact import ArtifactConfig
from mlops_plugin.config.schema.rows import SinkConfig, SourceConfig
from mlops_plugin.config.schema.schedule import ScheduleSettings
from mlops_plugin.config.schema.showroom import ShowroomConfig

_RESERVED_COLUMN = re.compile(
    r"prediction(_.*)?|score|probability_.*|dispatch_id|model|artifact_sha256|predicted_at", re.IGNORECASE
)


class ModelConfig(ScheduleSettings):
    """One entry under `models:`, complete: defaults are already merged in."""

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)] = Field(
        description="The key under models:; also the DAG id.", examples=["churn"]
    )
    description: Line = Field(
        default="", description="What the model does, in one line.", examples=["Will a customer leave?"]
    )
    docs: str = Field(
        default="",
        description="Markdown, shown on the DAG's page.",
        examples=["Trained by the **fraud team**, see the wiki."],
    )
    model: ArtifactConfig = Field(
        description="The artifact: which file, in which format.",
        examples=[{"format": "skops", "uri": "models/churn.skops"}],
    )
    key: SomeColumnNames = Field(
        description="Columns of the query that identify a row; they are stored with its prediction.",
        examples=[["customer_id"]],
    )
    features: SomeColumnNames | None = Field(
        default=None,
        description="For a model trained without feature names: its columns, in order. Other models know "
        "their own.",
        examples=[["age", "income"]],
    )
    source: SourceConfig = Field(
        description="Where the rows come from.",
        examples=[{"connection": "warehouse", "query": "SELECT id, age, income FROM customers"}],
    )
    sink: SinkConfig = Field(
        description="Where the predictions go.",
        examples=[{"connection": "warehouse", "table": "churn_predictions"}],
    )
    showroom: ShowroomConfig = Field(
        default_factory=ShowroomConfig,
        description="How cases are shown to people.",
        examples=[{"search": ["name"], "truth": "churned"}],
    )

    @field_validator("catchup")
    @classmethod
    def _check_catchup(cls, catchup: bool, info: ValidationInfo) -> bool:
        if catchup and info.data.get("start_date", ...) is None:
            raise ValueError("catchup needs a start_date; write e.g. start_date: 2026-01-31")
        return catchup

    @field_validator("max_active_runs")
    @classmethod
    def _check_max_active_runs(cls, max_active_runs: int, info: ValidationInfo) -> int:
        if info.data.get("schedule") == "@continuous" and max_active_runs != 1:
            raise ValueError(f"must be 1 with schedule @continuous, found {max_active_runs}")
        return max_active_runs

    @field_validator("key")
    @classmethod
    def _check_key(cls, key: tuple[str, ...]) -> tuple[str, ...]:
        for column in key:
            if _RESERVED_COLUMN.fullmatch(column):
                raise ValueError(
                    f"'{column}' is a column of the predictions table; rename it in the query: "
                    f"SELECT {column} AS {column}_key"
                )
        return key

    @model_validator(mode="after")
    def _check_own_asset(self) -> Self:
        own = f"{self.name}.predictions"
        if isinstance(self.schedule, tuple) and own in self.schedule:
            error = ValueError(f"'{own}' is this model's own asset: it would run for ever; remove it")
            # A plain ValueError would point at the model; this one points at its schedule.
            details: InitErrorDetails = {
                "type": "value_error",
                "loc": ("schedule",),
                "input": self.schedule,
                "ctx": {"error": error},
            }
            raise ValidationError.from_exception_data(type(self).__name__, [details])
        return self

    def config_hash(self) -> str:
        """SHA-256 (64 hex digits) of this model's effective configuration, canonical JSON.

        A relative `uri` counts as it is written: where a deployment is unpacked changes nothing.
        """
        content = self.model_dump(mode="json")
        content["model"]["uri"] = self.model._uri_as_written or self.model.uri
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()
