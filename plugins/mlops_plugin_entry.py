"""The one file of this project that Airflow's plugin scanner sees."""

from __future__ import annotations

from mlops_plugin.plugin import MlopsPlugin

__all__ = ["MlopsPlugin"]
