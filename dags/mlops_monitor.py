"""The DAG that probes for the Monitor's history, for Airflow to find.

A file of its own: it reads only the settings, and a problem with it takes no model along.
"""

from __future__ import annotations

from mlops_plugin.config.loader import find_config_file
from mlops_plugin.monitor_dag import build_monitor_dags

globals().update(build_monitor_dags(find_config_file()))
