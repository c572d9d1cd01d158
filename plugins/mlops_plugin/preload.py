"""Loads what every dispatch's tasks import into the process that forks them.

A deployment's `airflow_local_settings.py` calls it, that of `make up` and Compose too. LocalExecutor forks
tasks from the scheduler, a Celery worker from itself: what is loaded there, no task has to load again. See
docs/performance.md.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial

from mlops_plugin.formats.importing.skops_import import import_skops_io
from mlops_plugin.formats.native_threads import wait_passively
from mlops_plugin.workers.starting import start_fork_server

_log = logging.getLogger(__name__)

SWITCH = "AIRFLOW__MLOPS__PRELOAD"
_OFF = ("false", "f", "0", "no", "off", "n")

# Commands of `airflow` whose process forks tasks.
_FORKS_TASKS = (["scheduler"], ["celery", "worker"])
_MODULES = (
    "pandas",
    "scipy.stats",
    "sqlalchemy.dialects.mysql",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "fsspec.implementations.local",
    "sqlglot.dialects.duckdb",
    "sqlglot.dialects.mysql",
    "sqlglot.dialects.postgres",
    "sqlglot.dialects.sqlite",
    "mlops_plugin.orchestration.dag_factory",
    "mlops_plugin.pipeline.runner",
    "mlops_plugin.databases.drivers.adbc_duckdb",
    "mlops_plugin.databases.drivers.adbc_postgres",
    "mlops_plugin.databases.drivers.adbc_sqlite",
    "mlops_plugin.databases.drivers.mysql",
    "mlops_plugin.databases.drivers.odbc.driver",
    "mlops_plugin.databases.limited_database",
    "mlops_plugin.databases.sink.writer",
    # What steps import where they need it:
    "mlops_plugin.databases.query_order",
    "mlops_plugin.databases.time_comparisons",
    "mlops_plugin.formats.signature.signed_input",
    "mlops_plugin.pipeline.reading.compared_times",
    "mlops_plugin.pipeline.reading.query_check",
    "mlops_plugin.pipeline.validation.baseline",
    "mlops_plugin.pipeline.validation.baseline_making",
    "mlops_plugin.pipeline.validation.learning",
    "mlops_plugin.pipeline.validation.output_check",
    "mlops_plugin.pipeline.validation.quarantine",
    "mlops_plugin.pipeline.validation.refusals",
    "mlops_plugin.pipeline.validation.screening",
    "mlops_plugin.workers.isolation",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "mlops_plugin.formats.scikit_files",
)
# A deployment has those of its own databases: a package, and what is imported if it is there.
_DRIVERS = {
    "arrow_odbc": "arrow_odbc",
    "adbc_driver_duckdb": "adbc_driver_duckdb.dbapi",
    "adbc_driver_postgresql": "adbc_driver_postgresql.dbapi",
    "adbc_driver_sqlite": "adbc_driver_sqlite.dbapi",
    "mysql.connector": "mlops_plugin.databases.drivers.mysql_protocol.session",
}


def preload(command: Sequence[str] | None = None) -> bool:
    """Import the libraries of a dispatch if this process forks tasks; returns whether it did.

    `command`: the arguments of `airflow`, this process's own if None. What cannot be imported is logged and
    left out: the process starts all the same. `SWITCH` in the environment turns it off.
    """
    if os.environ.get(SWITCH, "").strip().lower() in _OFF:
        return False
    arguments = list(sys.argv[1:] if command is None else command)
    if not any(arguments[: len(forks)] == forks for forks in _FORKS_TASKS):
        return False
    loads: list[Callable[[], object]] = [
        wait_passively,
        *(partial(importlib.import_module, module) for module in _MODULES),
        *(partial(importlib.import_module, module) for module in _installed_drivers()),
        _build_validators,
        _find_plugins_of_narwhals,
        import_skops_io,
        start_fork_server,
    ]
    for load in loads:
        try:
            load()
        except Exception as error:  # noqa: BLE001 - a broken installation must not keep a scheduler from starting
            _log.warning("not loaded before tasks are forked: %s: %s", type(error).__name__, error)
    gc.freeze()  # a collection in a forked process would touch, and so copy, every page of these
    return True


def _installed_drivers() -> list[str]:
    return [module for package, module in _DRIVERS.items() if _is_installed(package)]


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package.partition(".")[0]) is not None


def _find_plugins_of_narwhals() -> None:
    """scikit-learn asks it about every input, and the first time it looks through all installed packages."""
    from narwhals.dependencies import is_into_dataframe

    is_into_dataframe(None)


def _build_validators() -> None:
    """Of the configuration and of what is staged: else each task would build those that it meets."""
    from mlops_plugin.config.schema.section import build_sections
    from mlops_plugin.pipeline.staging.records import build_adapters

    build_sections()
    build_adapters()
