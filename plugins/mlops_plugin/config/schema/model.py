"""One entry under `models:`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from mlops_plugin.config.parameter_types import NAME_PATTERN, Line, SomeColumnNames
from mlops_plugin.config.schedules import AssetSchedule, CronSchedule, SpecialSchedule, has_whole_hours
from mlops_plugin.config.schema.artifact import ArtifactConfig
from mlops_plugin.config.schema.contract import InputContract, OutputContract, QuarantineConfig, Threshold
from mlops_plugin.config.schema.rows import SinkConfig, SourceConfig
from mlops_plugin.config.schema.schedule import ScheduleSettings
from mlops_plugin.config.schema.showroom import ShowroomConfig

_RESERVED_COLUMN = re.compile(
    r"prediction(_.*)?|score|probability_.*|dispatch_id|model|artifact_sha256|predicted_at", re.IGNORECASE
)
_QUARANTINE_COLUMN = re.compile(
    r"record_number|column_name|reason|value|key_text|quarantined_at|released_by|judged_by", re.IGNORECASE
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
        description="For a model trained without feature names: its columns, in order. Other models store "
        "them.",
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
    input: InputContract | None = Field(
        default=None,
        description="What rows must satisfy; invalid rows go to the quarantine, with the reason.",
        examples=[{"columns": {"age": {"type": "integer", "min": 0, "max": 120}}}],
    )
    output: OutputContract = Field(
        default_factory=OutputContract,
        description="What happens if the model answers NaN, an infinite number or an unknown class.",
        examples=[{"on_violation": "reject"}],
    )
    quarantine: QuarantineConfig = Field(
        default_factory=QuarantineConfig,
        description="Where rejected rows are stored.",
        examples=[{"table": "churn_rejected", "create": True}],
    )
    error_threshold: Threshold = Field(
        default=0,
        description="How many rows, or what share of the collected rows, may be rejected. If more are, "
        "the dispatch fails and writes no predictions.",
        examples=[10, "2%"],
    )
    execution: Literal["steps", "together"] = Field(
        default="steps",
        description="Whether each step is a task, or all run together in one task, `dispatch`: a small one "
        "is over sooner, a retry begins with `collect`, and `task_timeout` is for all steps.",
        examples=["together"],
    )
    showroom: ShowroomConfig = Field(
        default_factory=ShowroomConfig,
        description="How the Showroom shows cases.",
        examples=[{"search": ["name"], "truth": "churned"}],
    )

    # The file that it was read from, and the lines of its queries; for errors.
    _file: str = PrivateAttr(default="")
    _lines: Mapping[str, int | None] = PrivateAttr(default_factory=dict)
    _first_lines: Mapping[str, int | None] = PrivateAttr(default_factory=dict)

    @field_validator("catchup")
    @classmethod
    def _check_catchup(cls, catchup: bool, info: ValidationInfo) -> bool:
        if catchup and info.data.get("start_date", ...) is None:
            raise ValueError("catchup needs a start_date; write e.g. start_date: 2026-01-31")
        return catchup

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, timezone: str, info: ValidationInfo) -> str:
        if isinstance(info.data.get("schedule"), CronSchedule) and not has_whole_hours(timezone):
            raise ValueError(
                f"the clocks of {timezone} change by less than an hour, which Airflow's cron schedules do "
                "not support; write a duration as the schedule, or another time zone"
            )
        return timezone

    @field_validator("max_active_runs")
    @classmethod
    def _check_max_active_runs(cls, max_active_runs: int, info: ValidationInfo) -> int:
        if info.data.get("schedule") == SpecialSchedule("@continuous") and max_active_runs != 1:
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
        if isinstance(self.schedule, AssetSchedule) and own in self.schedule.names:
            message = f"'{own}' is this model's own asset: the model would run forever; remove it"
            raise self._wrong_at(("schedule",), self.schedule.names, message)
        return self

    @model_validator(mode="after")
    def _check_execution(self) -> Self:
        if self.execution == "together" and self.source.partitions is not None:
            message = "partitions are tasks of their own; write execution: steps, or remove source.partitions"
            raise self._wrong_at(("execution",), self.execution, message)
        return self

    @model_validator(mode="after")
    def _check_baseline(self) -> Self:
        if self.model.is_registered and self.input is not None and self.input.baseline is True:
            message = "nothing lies beside a model of a registry; write the baseline's path"
            raise self._wrong_at(("input", "baseline"), True, message)
        return self

    @model_validator(mode="after")
    def _check_contract(self) -> Self:
        imputed = [
            column
            for column in self.key
            if self.input
            and column in self.input.columns
            and self.input.columns[column].on_violation == "impute"
        ]
        if imputed:
            raise ValueError(
                f"input.columns.{imputed[0]}: a key identifies its row and cannot be imputed; "
                "use on_violation: reject or fail"
            )
        taken = [column for column in self.key if _QUARANTINE_COLUMN.fullmatch(column)]
        if taken and self.may_reject:
            raise ValueError(
                f"key: '{taken[0]}' is a column of the quarantine table; rename it in the query: "
                f"SELECT {taken[0]} AS {taken[0]}_key"
            )
        if self.may_reject and self.quarantine_sink == self.sink.model_copy(
            update={"mode": "append", "create": self.quarantine_sink.create}
        ):
            raise ValueError(
                "quarantine: this is the sink's own table; give rejected rows a table of their own"
            )
        return self

    @property
    def may_reject(self) -> bool:
        """Whether rows can be rejected at all."""
        return self.input is not None or self.output.on_violation == "reject"

    @property
    def quarantine_sink(self) -> SinkConfig:
        """Where rejected rows go, complete. Every dispatch adds its own."""
        create = self.sink.create if self.quarantine.create is None else self.quarantine.create
        return SinkConfig(
            connection=self.quarantine.connection or self.sink.connection,
            table=self.quarantine.table_beside(self.sink.table),
            mode="append",
            create=create,
        )

    def place_of(self, path: str) -> tuple[str, int | None]:
        """File and line of `source.query` or `showroom.cases`; '' and None for a model of no file."""
        return self._file, self._lines.get(path)

    def line_of_text(self, path: str, line: int, text: str) -> int | None:
        """Line in the file of a query's line (from 0), if the file has this `text` there.

        A template may have rendered more or fewer lines than it has itself.
        """
        query = self.source.query if path == "source.query" else self.showroom.cases or ""
        written, first = query.split("\n"), self._first_lines.get(path)
        is_there = first is not None and line < len(written) and written[line].strip() == text
        return first + line if first is not None and is_there else None

    def read_from(
        self, file: str, lines: Mapping[str, int | None], first_lines: Mapping[str, int | None]
    ) -> ModelConfig:
        """The same model, which knows where its queries stand: the lines of their keys and of their texts."""
        read = self.model_copy()
        read._file, read._lines, read._first_lines = file, lines, first_lines
        return read

    def located_in(self, folder: Path) -> ModelConfig:
        """The same model with the files that it names found from `folder` if they are relative."""
        update: dict[str, object] = {"model": self.model.located_in(folder)}
        if self.input is not None:
            update["input"] = self.input.located_in(folder)
        return self.model_copy(update=update)

    @model_validator(mode="after")
    def _check_increment(self) -> Self:
        source, sink = self.source, self.sink
        if source.cursor is not None and sink.mode != "upsert":
            raise self._wrong_at(
                ("source", "cursor"),
                source.cursor.column,
                "a cursor reads some rows again, which only mode upsert makes harmless; "
                f"sink.mode is {sink.mode}: write mode: upsert, or remove the cursor",
            )
        if source.cursor is not None and source.partitions is not None:
            raise self._wrong_at(
                ("source", "cursor"),
                source.cursor.column,
                "partitions are read at different times, and a row that appears in between could lie before "
                "the watermark without having been read; remove partitions, or the cursor",
            )
        if source.skip_predicted and sink.mode == "replace":
            raise self._wrong_at(
                ("source", "skip_predicted"),
                True,
                "mode replace keeps the newest dispatch only, so the skipped rows would lose their "
                "predictions; write sink.mode: upsert or append, or remove skip_predicted",
            )
        if source.skip_predicted and source.connection != sink.connection:
            raise self._wrong_at(
                ("source", "skip_predicted"),
                True,
                "the database compares rows with predictions, so both must be on the same connection; found "
                f"'{source.connection}' for the source and '{sink.connection}' for the sink",
            )
        return self

    def _wrong_at(self, place: tuple[str, ...], found: object, message: str) -> ValidationError:
        """A plain ValueError would point at the model; this one points at one of its parameters."""
        details: InitErrorDetails = {
            "type": "value_error",
            "loc": place,
            "input": found,
            "ctx": {"error": ValueError(message)},
        }
        return ValidationError.from_exception_data(type(self).__name__, [details])

    def config_hash(self) -> str:
        """SHA-256 (64 hex digits) of what this model's configuration says, canonical JSON.

        Defaults do not count, written out or not: a version with more parameters changes no hash. Relative
        paths count as they are written: the folder of a deployment does not count.
        """
        content = self.model_dump(mode="json", exclude_defaults=True)
        content["model"]["uri"] = self.model._uri_as_written or self.model.uri
        if self.model.environment is not None:
            content["model"]["environment"]["requirements"] = self.model.environment.requirements_as_written
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()
