"""A whole config.yaml."""

from __future__ import annotations

from pydantic import Field

from mlops_plugin.config.parameter_types import FilePatterns
from mlops_plugin.config.schema.deployment import EventsConfig, ServingConfig, StagingConfig
from mlops_plugin.config.schema.model import ModelConfig
from mlops_plugin.config.schema.monitor import MonitorConfig
from mlops_plugin.config.schema.schedule import ScheduleSettings
from mlops_plugin.config.schema.section import Section


class Config(Section):
    """A whole config.yaml."""

    defaults: ScheduleSettings = Field(
        default_factory=ScheduleSettings,
        description="Settings for every model's DAG; a model's own value wins.",
        examples=[{"retries": 3, "owner": "fraud-team"}],
    )
    events: EventsConfig = Field(
        default_factory=EventsConfig,
        description="Where the record of dispatches is kept.",
        examples=[{"connection": "mlops_events"}],
    )
    staging: StagingConfig = Field(
        default_factory=StagingConfig,
        description="Where rows wait between two steps.",
        examples=[{"url": "s3://bucket/staging"}],
    )
    serving: ServingConfig = Field(
        default_factory=ServingConfig,
        description="What a model may use while it answers in the Showroom and in `mlops serve`.",
        examples=[{"timeout": "10s", "memory_mb": 1024}],
    )
    monitor: MonitorConfig = Field(
        default_factory=MonitorConfig,
        description="What the Monitor watches besides the models.",
        examples=[{"hosts": [{"host": "features.example.org", "port": 443}]}],
    )
    include: FilePatterns = Field(
        default=(),
        description="Files with more models, as paths from the folder of this file; `*`, `?` and `[ab]` "
        "stand for parts of one name. Each file holds `models:` and nothing else.",
        examples=[["teams/*.yaml"]],
    )
    models: dict[str, ModelConfig] = Field(
        default={},
        description="The models, each under its name, which is also its DAG id. Required without `include`.",
        examples=[
            {
                "churn": {
                    "model": {"format": "skops", "uri": "models/churn.skops"},
                    "key": ["id"],
                    "source": {"connection": "warehouse", "query": "SELECT id, age, income FROM customers"},
                    "sink": {"connection": "warehouse", "table": "churn_predictions"},
                }
            }
        ],
    )
