"""What the Monitor costs with 1, 100 and 1,000 models: its page, its JSON, and a round of `mlops_monitor`.

One Airflow with users and roles, its metadata in PostgreSQL with 100 runs of each DAG, and an event store in
MariaDB with 100 dispatches of each model and a day of sums. Beside it, for as many models: the calls by which
Airflow's own list of DAGs is filled (100 of them a call), a REST call for each model's last run, and for what
a round writes one plain INSERT of all rows. Medians in milliseconds; a round in Airflow is one run.

    python -m benchmarks.monitor [--models 1 100 1000] [--repeat 5]
"""

from __future__ import annotations

import argparse
import http.client
import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.dispatches import measure
from mlops_plugin.events.latest import latest_dispatches
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.monitoring.recording import record_round
from support.airflow_process import RunningAirflow, running_airflow
from support.servers import ServerDatabase, start_mariadb, start_postgres
from support.workshop import Workshop

EACH = 100  # dispatches of each model, and runs of each DAG
_MONITOR_DAG = "mlops_monitor"
_DISPATCHES = """
INSERT INTO mlops_dispatch (dispatch_id, model, origin, dag_id, run_id, dry_run, state, created_at,
  started_at, finished_at, updated_at, tries, rows_collected, rows_predicted, rows_rejected, rows_persisted)
SELECT INSERT(INSERT(INSERT(INSERT(MD5(seq), 9, 0, '-'), 14, 0, '-'), 19, 0, '-'), 24, 0, '-'),
  CONCAT('model_', seq MOD {models}), IF(seq MOD 7, 'scheduled', 'showroom'),
  CONCAT('model_', seq MOD {models}), CONCAT('run__', seq DIV {models}), 0,
  IF(seq MOD 30, 'succeeded', 'failed'), at, at, at + INTERVAL 9 SECOND, at + INTERVAL 9 SECOND, 1,
  50000, 50000, 0, 50000
FROM (SELECT seq, TIMESTAMP('{now}') - INTERVAL (seq DIV {models}) HOUR AS at FROM seq_0_to_{last}) made
"""
_HOURS = """
INSERT INTO mlops_probe_hour (target, hour, up, partly, down, seconds_sum, seconds_max)
SELECT CONCAT('model model_', seq MOD {models}), TIMESTAMP('{hour}') - INTERVAL (1 + seq DIV {models}) HOUR,
  12, 0, 0, 0, 0 FROM seq_0_to_{last}
"""
_RUNS = """
INSERT INTO dag_run (dag_id, run_id, run_type, state, queued_at, logical_date, start_date, end_date,
  run_after, data_interval_start, data_interval_end, clear_number, updated_at, triggered_by)
SELECT 'model_' || n, 'run__' || hours, 'scheduled', 'success', at, at, at, at, at, at, at, 0, at, 'TIMETABLE'
FROM generate_series(0, {models} - 1) n, generate_series({each} - 1, 0, -1) hours,
  LATERAL (SELECT now() - hours * interval '1 hour' AS at) made
"""
_PLAIN = "INSERT INTO plain (target, at, state) VALUES (%s, %s, %s)"


class Caller:
    """A signed-in administrator over one connection."""

    def __init__(self, airflow: RunningAirflow) -> None:
        sign_in = {"username": "admin", "password": "admin"}
        token = str(airflow.api.call("POST", "/auth/token", sign_in)["access_token"])
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "*/*"}
        port = int(airflow.api.url.rsplit(":", 1)[1])
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)

    def get(self, path: str) -> int:
        """Bytes of an answer; any failure ends the benchmark."""
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body.decode()[:500]}")
        return len(body)


def describe(workshop: Workshop, models: int) -> None:
    """Write a configuration with that many models, hourly ones, and a Monitor that is run by hand."""
    entry = {**next(iter(workshop.models.values())), "schedule": "30 * * * *"}
    workshop.models = {
        f"model_{n}": {**entry, "sink": {**entry["sink"], "table": f"predictions_{n}"}} for n in range(models)
    }
    workshop.sections["monitor"] = {"schedule": "@yearly", "late_after": "5m"}
    workshop.write()


def fill(events: ServerDatabase, metadata: ServerDatabase, models: int) -> None:
    """Dispatches, sums by hour, and runs of every model."""
    now = datetime.now(UTC)
    values = {"models": models, "now": f"{now:%Y-%m-%d %H:%M:%S}", "hour": f"{now:%Y-%m-%d %H}:00:00"}
    events.execute(_DISPATCHES.format(last=models * EACH - 1, **values))
    events.execute(_HOURS.format(last=models * 24 - 1, **values))
    events.execute("ANALYZE TABLE mlops_dispatch, mlops_probe_hour")
    metadata.execute(_RUNS.format(models=models, each=EACH))


def seconds_of_a_round(airflow: RunningAirflow) -> float:
    """A round of the DAG, from its task's start to its end."""
    run_id = airflow.trigger(_MONITOR_DAG)
    if airflow.wait_for_run(_MONITOR_DAG, run_id) != "success":
        raise SystemExit(f"the round failed\n{airflow.logs()}")
    return float(airflow.task(_MONITOR_DAG, run_id, "probe")["duration"])


def insert_plainly(events: ServerDatabase, models: int) -> None:
    """What a script would record of a round: a row for each model."""
    now = datetime.now(UTC).replace(tzinfo=None)
    with events.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(_PLAIN, [(f"model model_{n}", now, "up") for n in range(models)])
        connection.commit()


def figures(
    airflow: RunningAirflow, caller: Caller, events: ServerDatabase, models: int, repeat: int
) -> dict[str, float]:
    """Milliseconds by what was done."""
    workshop = airflow.workshop

    def list_dags() -> None:
        for offset in range(0, models, 100):
            caller.get(f"/ui/dags?{urlencode({'limit': 100, 'offset': offset, 'dag_runs_limit': 1})}")

    def ask_each() -> None:
        for n in range(models):
            caller.get(f"/api/v2/dags/model_{n}/dagRuns?limit=1&order_by=-run_after")

    with workshop.deployment.event_store() as store:
        names, loaded = list(workshop.loaded.config.models), workshop.loaded
        asked: dict[str, Callable[[], object]] = {
            "Monitor, page": partial(caller.get, "/mlops/monitor"),
            "Monitor, JSON": partial(caller.get, "/mlops/api/v1/monitor"),
            "Airflow's list of DAGs": list_dags,
            "a REST call for each model": ask_each,
            "last dispatches": partial(latest_dispatches, store, names),
            "round without Airflow": partial(record_round, loaded, store, workshop.home),
            "plain INSERT": partial(insert_plainly, events, models),
        }
        found = {name: measure(ask, repeat) for name, ask in asked.items()}
    return {**found, "round in Airflow": seconds_of_a_round(airflow) * 1000}


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args(arguments)
    counts = sorted(options.models)
    with (
        tempfile.TemporaryDirectory() as name,
        start_mariadb("--innodb-buffer-pool-size=1G", is_durable=True) as mariadb,
        start_postgres() as postgres,
    ):
        workshop = Workshop(Path(name))
        workshop.metadata, events = postgres.new_database(), mariadb.new_database()
        workshop.connections["events"] = events.airflow_uri()
        describe(workshop, counts[-1])
        os.environ.update(workshop.environment)
        with workshop.deployment.event_store() as store:
            upgrade(store.address)
        events.execute("CREATE TABLE plain (target VARCHAR(300), at DATETIME(6), state VARCHAR(20))")
        # DAGs stay as they are read first: what is measured is not disturbed by reading them again.
        settings = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "86400"}
        settings["AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT"] = "600"
        settings["AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT"] = "600"
        table: dict[int, dict[str, float]] = {}
        with running_airflow(workshop, settings, roles=["Admin"]) as airflow:
            dags = partial(airflow.call, "GET", "/dags?limit=1")
            airflow.wait(lambda: dags()["total_entries"] > counts[-1], "parsing", 900)
            fill(events, workshop.metadata, counts[-1])
            caller = Caller(airflow)
            seconds_of_a_round(airflow)
            for models in reversed(counts):
                describe(workshop, models)
                table[models] = figures(airflow, caller, events, models, options.repeat)
    print(f"{'milliseconds, by models':28} " + " ".join(f"{models:>10,}" for models in counts))
    for what in table[counts[0]]:
        print(f"{what:28} " + " ".join(f"{table[models][what]:10,.1f}" for models in counts))


if __name__ == "__main__":
    main()
