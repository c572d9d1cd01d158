"""Many users at once, while three models hang: errors, Airflow's health check, and the API server's memory.

20 users run a model on cases 50 times a second together, 5 browsers poll the Monitor, and each of three
models hangs with as many requests as it may run, and two more. Prints how many requests were answered,
turned away (429) and failed, their percentiles in milliseconds, and the memory of the API server's processes,
the models' left out, at the start and at the end. Beside it, 50 requests a second for Airflow's own list of
DAGs: what the health check waits then is Airflow's.

    python -m benchmarks.load [--seconds 120]
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from mlops_plugin.events.migrating import upgrade
from support import hostile_models as hostile
from support.airflow_process import REPOSITORY, RunningAirflow, running_airflow
from support.servers import start_mariadb, start_postgres
from support.workshop import FEATURES, Workshop

USERS, REQUESTS_PER_S, MONITORS, HUNG = 20, 50, 5, 3
HUNG_CALLERS = 5  # of each: three run, the others wait for their turn
_MONITOR_EVERY_S, _HEALTH_EVERY_S, _HUNG_EVERY_S = 5.0, 0.2, 1.0
_CASES = 1000


@dataclass
class Tally:
    """What came of the requests of one kind: statuses, and milliseconds of those that were answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Caller:
    """One signed-in client with a connection of its own."""

    def __init__(self, port: int, token: str, tally: Tally) -> None:
        self._port, self._tally = port, tally
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: bytes | None = None) -> None:
        began = time.perf_counter()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
            connection.request(method, path, body, self._headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
            connection.close()
        except OSError:
            status = 0
        self._tally.statuses[status] += 1
        self._tally.milliseconds.append((time.perf_counter() - began) * 1000)


def repeat(act: Callable[[], None], every_s: float, until: float) -> threading.Thread:
    """Act at fixed moments, as people do who do not wait for each other; late ones are made up for."""

    def run() -> None:
        due = time.monotonic()
        while time.monotonic() < until:
            time.sleep(max(0.0, due - time.monotonic()))
            act()
            due += every_s

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def prepare(workshop: Workshop) -> None:
    """A sound model with a thousand cases, and three that hang on what they are asked."""
    workshop.add_rows(_CASES)
    artifact = hostile.save(hostile.Hostile(), workshop.folder / "hung.pickle")
    for number in range(HUNG):
        workshop.add_model(f"hung_{number}", model=artifact, features=list(FEATURES))


def load(airflow: RunningAirflow, seconds: float) -> dict[str, Tally]:
    """Put load on the views of a running Airflow; returns the tallies by kind."""
    port, token = _sign_in(airflow)
    tallies = {kind: Tally() for kind in ("runs", "cases", "Monitor", "hung models", "health")}
    models = "/mlops/api/v1/showroom/models"
    first = Caller(port, token, Tally())
    first.call("POST", f"{models}/churn/runs", json.dumps({"keys": [[1]]}).encode())  # it loads the model
    until = time.monotonic() + seconds
    threads = [check_health(port, token, tallies["health"], until)]
    for user in range(USERS):
        runs, cases = Caller(port, token, tallies["runs"]), Caller(port, token, tallies["cases"])
        keys = itertools.cycle(range(1 + user, _CASES, USERS))

        def use(runs: Caller = runs, cases: Caller = cases, keys: itertools.cycle[int] = keys) -> None:
            key = next(keys)
            if key % 5 == 0:
                cases.call("GET", f"{models}/churn/cases?page_rows=25")
            else:
                runs.call("POST", f"{models}/churn/runs", json.dumps({"keys": [[key]]}).encode())

        threads.append(repeat(use, USERS / REQUESTS_PER_S, until))
    for _ in range(MONITORS):
        look = partial(Caller(port, token, tallies["Monitor"]).call, "GET", "/mlops/api/v1/monitor")
        threads.append(repeat(look, _MONITOR_EVERY_S, until))
    rows = json.dumps({"rows": [{"id": 1, "a": hostile.HANGS, "b": 0, "c": 0}]}).encode()
    for number in range(HUNG):
        for _ in range(HUNG_CALLERS):
            hung = Caller(port, token, tallies["hung models"])
            ask = partial(hung.call, "POST", f"{models}/hung_{number}/runs", rows)
            threads.append(repeat(ask, _HUNG_EVERY_S, until))
    _wait(threads, seconds)
    return tallies


def load_airflow(airflow: RunningAirflow, seconds: float) -> dict[str, Tally]:
    """The same number of requests for Airflow's list of DAGs, and nothing of ours."""
    port, token = _sign_in(airflow)
    tallies = {kind: Tally() for kind in ("lists of DAGs", "health beside them")}
    until = time.monotonic() + seconds
    threads = [check_health(port, token, tallies["health beside them"], until)]
    for _ in range(USERS):
        ask = partial(Caller(port, token, tallies["lists of DAGs"]).call, "GET", "/api/v2/dags?limit=25")
        threads.append(repeat(ask, USERS / REQUESTS_PER_S, until))
    _wait(threads, seconds)
    return tallies


def check_health(port: int, token: str, tally: Tally, until: float) -> threading.Thread:
    """Ask for Airflow's health all the time."""
    health = Caller(port, token, tally)
    return repeat(lambda: health.call("GET", "/api/v2/monitor/health"), _HEALTH_EVERY_S, until)


def _sign_in(airflow: RunningAirflow) -> tuple[int, str]:
    sign_in = {"username": "admin", "password": "admin"}
    token = str(airflow.api.call("POST", "/auth/token", sign_in)["access_token"])
    return int(airflow.api.url.rsplit(":", 1)[1]), token


def _wait(threads: Sequence[threading.Thread], seconds: float) -> None:
    for thread in threads:
        thread.join(seconds + 180)


def memory_mb(folder: Path) -> float:
    """Resident memory of the API server's processes, without the models'."""
    total = 0
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
            pages = int((process / "statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if str(folder).encode() in environment and b"workers.worker" not in command and b"api" in command:
            total += pages * os.sysconf("SC_PAGE_SIZE")
    return total / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as name,
        start_mariadb(is_durable=True) as server,
        start_postgres() as metadata,
    ):
        workshop = Workshop(Path(name))
        workshop.connections["events"] = server.new_database().airflow_uri()
        workshop.metadata = metadata.new_database()
        prepare(workshop)
        os.environ.update(workshop.environment)
        with workshop.deployment.event_store() as store:
            upgrade(store.address)
        tests = {"PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY / 'tests'}"}
        with running_airflow(workshop, tests, components=["api-server"], roles=["Admin"]) as airflow:
            load(airflow, min(20, options.seconds))  # connections, caches and models come into being
            before = memory_mb(workshop.folder)
            tallies = load(airflow, options.seconds)
            after = memory_mb(workshop.folder)
            tallies |= load_airflow(airflow, options.seconds)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    for kind, tally in tallies.items():
        answered, busy = tally.statuses[200], tally.statuses[429]
        failed = {status: n for status, n in tally.statuses.items() if status not in (200, 429)}
        median = statistics.median(tally.milliseconds) if tally.milliseconds else float("nan")
        print(
            f"{kind:18} {answered:6} answered {busy:6} turned away, others {failed}; p50 {median:.0f} ms, "
            f"p99 {tally.percentile(0.99):.0f} ms"
        )
    print(f"memory of the API server: {before:.0f} MB, afterwards {after:.0f} MB")


if __name__ == "__main__":
    main()
