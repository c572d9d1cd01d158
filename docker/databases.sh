#!/bin/sh
# Runs once, when MySQL's data folder is empty: one database and one account for each purpose.
set -eu
export MYSQL_PWD="${MYSQL_ROOT_PASSWORD}" # not on a command line, where other processes see it
mysql --user=root <<SQL
CREATE DATABASE airflow CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
CREATE DATABASE mlops_events CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE DATABASE demo_source CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE DATABASE demo_sink CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE USER 'airflow'@'%' IDENTIFIED BY '${AIRFLOW_DB_PASSWORD}';
CREATE USER 'mlops_events'@'%' IDENTIFIED BY '${EVENTS_DB_PASSWORD}';
CREATE USER 'demo_setup'@'%' IDENTIFIED BY '${DEMO_SETUP_PASSWORD}';
CREATE USER 'demo_source'@'%' IDENTIFIED BY '${DEMO_SOURCE_PASSWORD}';
CREATE USER 'demo_sink'@'%' IDENTIFIED BY '${DEMO_SINK_PASSWORD}';
GRANT ALL ON airflow.* TO 'airflow'@'%';
GRANT ALL ON mlops_events.* TO 'mlops_events'@'%';
GRANT ALL ON demo_source.* TO 'demo_setup'@'%';
GRANT SELECT ON demo_source.* TO 'demo_source'@'%';
GRANT ALL ON demo_sink.* TO 'demo_sink'@'%';
SQL
