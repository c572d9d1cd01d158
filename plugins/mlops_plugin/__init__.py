"""ML models served by Airflow: one DAG per model described in config.yaml."""
