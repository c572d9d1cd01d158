"""An Airflow import error for the models in config.yaml that are broken; never a DAG.

A file of its own: an import error in Airflow takes all DAGs of its file with it.
"""

from __future__ import annotations

from mlops_plugin.config.loader import find_config_file
from mlops_plugin.dag_factory import raise_broken_models

raise_broken_models(find_config_file())
