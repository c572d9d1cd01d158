"""Public name of the Monitor's DAG, which deployments' DAG files import; see docs/architecture.md."""

from mlops_plugin.orchestration.monitor_dag import build_monitor_dags

__all__ = ["build_monitor_dags"]
