"""One DAG for each sound model in config.yaml, for Airflow to find."""

from __future__ import annotations

from mlops_plugin.config.loader import find_config_file
from mlops_plugin.dag_factory import build_dags

globals().update(build_dags(find_config_file()))
