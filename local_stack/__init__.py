"""Airflow on this machine for `make up`: install, start, watch, stop. Standard library only, Linux only."""
