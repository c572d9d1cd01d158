"""Airflow's own place for code of a deployment: loads the libraries of dispatches before tasks are forked.

`make up` and the image put a copy into `$AIRFLOW_HOME/config`. `AIRFLOW__MLOPS__PRELOAD=False` turns it off.
"""

import logging

__all__: list[str] = []

try:
    from mlops_plugin.preload import preload

    preload()
except Exception:  # whatever a broken installation raises: the scheduler has to start
    logging.getLogger(__name__).exception("no libraries are loaded before tasks are forked")
