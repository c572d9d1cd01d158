"""What knows Airflow's DAGs: the DAG factory, the operators, the Monitor's DAG, roles and DAG states."""
