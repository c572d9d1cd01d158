"""The views in Airflow's UI, and the same data as JSON."""
