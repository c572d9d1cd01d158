# Airflow's official image with this project's lock, ODBC drivers, DAGs and plugin.
FROM apache/airflow:3.3.2-python3.12

USER root
RUN apt-get update \
    && apt-get install -y --no-install-recommends unixodbc odbc-mariadb odbc-postgresql \
    && rm -rf /var/lib/apt/lists/*

USER airflow
WORKDIR /opt/airflow
# mysqlclient, which Airflow needs for a MySQL metadata database, is in the official image.
COPY requirements.txt ./
RUN pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: -r requirements.txt

COPY --chown=airflow:0 pyproject.toml requirements.in README.md LICENSE ./
COPY --chown=airflow:0 plugins ./plugins
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .
COPY --chown=airflow:0 docker/init.sh ./docker/
COPY --chown=airflow:0 local_stack/airflow_local_settings.py ./config/
COPY --chown=airflow:0 local_stack ./local_stack
COPY --chown=airflow:0 dags ./dags
COPY --chown=airflow:0 include ./include

# The code is root's: what runs as airflow, which is in root's group, cannot change it. A named volume takes over
# the owner of the folder that it covers.
USER root
RUN chown root:0 . \
    && chown -R root:0 pyproject.toml requirements.* README.md LICENSE plugins docker local_stack config dags include \
    && chmod -R go-w . \
    && install -d -o airflow -g 0 -m 700 mlops logs
USER airflow

ENV AIRFLOW__MLOPS__CONFIG_FILE=/opt/airflow/include/config.yaml \
    AIRFLOW_CONFIG=/tmp/airflow.cfg
