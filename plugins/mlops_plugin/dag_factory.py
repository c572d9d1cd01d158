"""Public name of the DAG factory, which deployments' DAG files import; see docs/architecture.md."""

from mlops_plugin.orchestration.dag_factory import build_dags, raise_broken_models

__all__ = ["build_dags", "raise_broken_models"]
