#!/bin/sh
# The `init` service: everything that must be done once before Airflow's components start; safe to repeat.
set -eu
echo "== Airflow's database"
airflow db migrate
echo "== roles and the administrator"
python -m local_stack.accounts
echo "== event store"
mlops db upgrade
if [ "${MLOPS_DEMO:-yes}" = yes ]; then
    echo "== demo"
    python "${AIRFLOW_HOME}/include/make_demo.py" --connection demo_setup
fi
