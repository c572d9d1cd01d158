"""The typed configuration: what may stand in config.yaml, with its defaults and meaning.

`config.loader` builds these from YAML; every other module reads them. Descriptions and examples feed the
JSON Schema and docs/configuration.md.
"""

from __future__ import annotations

from mlops_plugin.config.schema.artifact import ArtifactConfig, EnvironmentConfig
from mlops_plugin.config.schema.config import Config
from mlops_plugin.config.schema.contract import (
    BASELINE_SUFFIX,
    ColumnContract,
    InputContract,
    OutputContract,
    QuarantineConfig,
    rows_tolerated,
)
from mlops_plugin.config.schema.cursor import CursorConfig
from mlops_plugin.config.schema.deployment import EventsConfig, ServingConfig, StagingConfig
from mlops_plugin.config.schema.model import ModelConfig
from mlops_plugin.config.schema.monitor import (
    HostConfig,
    MonitorConfig,
    NotifierConfig,
    WatchedConfig,
    WatchedDatabaseConfig,
)
from mlops_plugin.config.schema.pages import PagesConfig
from mlops_plugin.config.schema.partitions import PartitionsConfig
from mlops_plugin.config.schema.rows import SinkConfig, SourceConfig
from mlops_plugin.config.schema.schedule import ScheduleSettings
from mlops_plugin.config.schema.section import Section
from mlops_plugin.config.schema.showroom import ImageConfig, ShowroomConfig

MONITOR_DAG_ID = "mlops_monitor"

__all__ = [
    "BASELINE_SUFFIX",
    "MONITOR_DAG_ID",
    "ArtifactConfig",
    "ColumnContract",
    "Config",
    "CursorConfig",
    "EnvironmentConfig",
    "EventsConfig",
    "HostConfig",
    "ImageConfig",
    "InputContract",
    "ModelConfig",
    "MonitorConfig",
    "NotifierConfig",
    "OutputContract",
    "PagesConfig",
    "PartitionsConfig",
    "QuarantineConfig",
    "ScheduleSettings",
    "Section",
    "ServingConfig",
    "ShowroomConfig",
    "SinkConfig",
    "SourceConfig",
    "StagingConfig",
    "WatchedConfig",
    "WatchedDatabaseConfig",
    "rows_tolerated",
]
