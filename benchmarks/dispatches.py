"""What the Dispatches view asks of an event store with a million dispatches and ten million events.

Fills a private MariaDB server, then asks for the first page, a page far back, the count and the history with
no filter and with every combination of filters, also such that nothing or almost nothing passes. Medians and
the slowest, in milliseconds, each over a warm connection as a page uses it.

    python -m benchmarks.dispatches [--dispatches 1000000] [--repeat 7]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.events.reading import DispatchFilter, OriginFilter
from mlops_plugin.events.records import Cursor, State
from mlops_plugin.events.store import EventStore
from support.event_stories import connection_of
from support.servers import ServerDatabase, start_mariadb

EVENTS_EACH = 10
_NEWEST = datetime(2026, 1, 1, tzinfo=UTC)  # one dispatch a minute, back from here
_CHUNK = 50_000
STATES: tuple[State | None, ...] = (None, "running", "failed")  # counted above the list

# Half of all belong to one model, one in thirty failed, the newest few run, and `rare` only ever succeeds by
# schedule: some combination of filters matches many dispatches, some few, and some none.
_DISPATCHES = """
INSERT INTO mlops_dispatch (dispatch_id, model, origin, requested_by, dag_id, run_id, data_interval_start,
  data_interval_end, dry_run, state, created_at, started_at, finished_at, updated_at, tries, rows_collected,
  rows_predicted, rows_rejected, rows_persisted, columns, first_key, last_key, artifact_sha256, artifact_uri,
  config_sha256, query, error)
SELECT id, model, origin, IF(origin = 'scheduled', NULL, 'somebody'), model, CONCAT('run__', seq),
  at - INTERVAL 1 DAY, at, 0, state, at, at + INTERVAL 1 SECOND,
  IF(state = 'running', NULL, at + INTERVAL 9 SECOND), at + INTERVAL 9 SECOND, 1, 50000, 50000, 0, 50000,
  '[{{"name": "id", "type": "int64"}}, {{"name": "a", "type": "double"}}]', '{{"id": 1}}', '{{"id": 50000}}',
  SHA2(model, 256), CONCAT('models/', model, '.skops'), SHA2(model, 256),
  CONCAT('SELECT id, a, b, c FROM customers WHERE updated_at < ', seq, REPEAT(' AND a IS NOT NULL', 20)),
  IF(state = 'failed', CONCAT("connection 'warehouse': reading failed: no route to host ", seq), NULL)
FROM (
  SELECT seq, INSERT(INSERT(INSERT(INSERT(MD5(seq), 9, 0, '-'), 14, 0, '-'), 19, 0, '-'), 24, 0, '-') AS id,
    TIMESTAMP('{newest}') - INTERVAL (seq) MINUTE AS at,
    CASE WHEN seq % 2 = 0 THEN 'busy' WHEN seq % 50000 = 1 THEN 'rare'
         ELSE CONCAT('model_', seq % 97) END AS model,
    CASE WHEN seq % 50000 = 1 OR seq % 20 < 17 THEN 'scheduled' WHEN seq % 20 = 17 THEN 'manual'
         WHEN seq % 20 = 18 THEN 'backfill' WHEN seq % 1000 = 19 THEN 'terminal'
         ELSE 'showroom' END AS origin,
    CASE WHEN seq < 5 THEN 'running' WHEN seq % 30 = 6 AND seq % 20 < 18 THEN 'failed'
         ELSE 'succeeded' END AS state
  FROM seq_{first}_to_{last}
) made
"""
_EVENTS = """
INSERT INTO mlops_event (dispatch_id, model, step, kind, try_number, at, row_count, seconds, error, details)
SELECT d.dispatch_id, d.model,
  IF(n.seq IN (1, 10), NULL, ELT(1 + (n.seq - 2) DIV 2, 'collect', 'log', 'infer', 'persist')),
  IF(n.seq = 10 OR (n.seq > 1 AND n.seq % 2 = 1), 'succeeded', 'started'), 1,
  d.created_at + INTERVAL n.seq - 1 SECOND, 50000, 0.75, NULL,
  IF(n.seq = 7, CONCAT('{{"rows": 50000, "distribution": {{"kind": "classes",',
    '"counts": [["leaves", 20000], ["stays", 30000]], "others": 0, "missing": 0}}}}'), NULL)
FROM mlops_dispatch d CROSS JOIN seq_1_to_10 n
WHERE d.created_at > TIMESTAMP('{newest}') - INTERVAL {last} + 1 MINUTE
  AND d.created_at < TIMESTAMP('{newest}') - INTERVAL {first} - 1 MINUTE
ORDER BY d.created_at, d.dispatch_id, n.seq
"""


def fill(database: ServerDatabase, dispatches: int) -> None:
    """Put that many dispatches with their events into tables that are empty."""
    newest = _NEWEST.strftime("%Y-%m-%d %H:%M:%S")
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET unique_checks = 0, foreign_key_checks = 0")
        cursor.execute("ALTER TABLE mlops_event DROP INDEX mlops_event_model, DROP INDEX mlops_event_at")
        for first in range(0, dispatches, _CHUNK):
            last = min(first + _CHUNK, dispatches) - 1
            for statement in (_DISPATCHES, _EVENTS):
                cursor.execute(statement.format(newest=newest, first=first, last=last))
        cursor.execute(
            "ALTER TABLE mlops_event ADD INDEX mlops_event_model (model, at, id),"
            " ADD INDEX mlops_event_at (at, id)"
        )
        cursor.execute("ANALYZE TABLE mlops_dispatch, mlops_event")


def filters() -> Iterator[tuple[str, DispatchFilter]]:
    """Every combination of model, state, origin and time range, with values that match many, few or none."""
    models = (None, "busy", "model_1", "rare", "gone")
    states: tuple[State | None, ...] = (None, "running", "succeeded", "failed")
    origins: tuple[OriginFilter | None, ...] = (
        *(None, "operations"),
        *("scheduled", "manual", "showroom", "terminal", "asset"),
    )
    old, older = _NEWEST - timedelta(days=400), _NEWEST - timedelta(days=430)
    for model, state, origin, is_ranged in itertools.product(models, states, origins, (False, True)):
        wanted = DispatchFilter(model, state, origin)
        if is_ranged:
            wanted = replace(wanted, since=older, until=old)
        names = [name for name, value in vars(wanted).items() if value is not None and name != "until"]
        yield "+".join(names).replace("since", "time range") or "no filter", wanted


def measure(ask: Callable[[], object], repeat: int) -> float:
    """Median of milliseconds; the first is not counted."""
    ask()
    took = []
    for _ in range(repeat):
        began = time.perf_counter()
        ask()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dispatches", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as home,
        start_mariadb("--innodb-buffer-pool-size=1G", is_durable=True) as server,
    ):
        database = server.new_database()
        connection = connection_of(database, conn_type="mysql")
        address = StoreAddress.of(EventsConfig(), connection, Path(home))
        upgrade(address)
        began = time.monotonic()
        fill(database, options.dispatches)
        print(
            f"{options.dispatches} dispatches and {options.dispatches * EVENTS_EACH} events in MariaDB, "
            f"filled in {time.monotonic() - began:.0f} s; medians of {options.repeat} in ms"
        )
        with EventStore(address) as store:
            _measure_lists(store, options.repeat)
            _measure_one(store, options.repeat)


def _measure_lists(store: EventStore, repeat: int) -> None:
    far_back = Cursor(_NEWEST - timedelta(days=300), "~")
    slowest: dict[str, list[float]] = {}
    for name, wanted in filters():
        times = [
            measure(partial(store.page, wanted), repeat),
            measure(partial(store.page, wanted, before=far_back), repeat),
            measure(partial(store.count, wanted), repeat),
        ]
        slowest[name] = [max(both) for both in zip(slowest.get(name, times), times, strict=True)]
    print(f"{'slowest value of each filter':32} {'first page':>10} {'far back':>10} {'count':>10}")
    for name, times in slowest.items():
        print(f"{name:32} " + " ".join(f"{took:10.1f}" for took in times))
    print(f"{'slowest of all':32} {max(map(max, slowest.values())):10.1f}")


def _measure_one(store: EventStore, repeat: int) -> None:
    (line,) = store.page(DispatchFilter(model="busy", state="succeeded"), limit=1)
    dispatch = store.get(line.dispatch_id)
    assert dispatch is not None
    for name, ask in (
        (
            "one dispatch with its events",
            lambda: (store.get(line.dispatch_id), store.events(line.dispatch_id)),
        ),
        ("the one before it", lambda: store.previous(dispatch)),
        ("history of 200", lambda: store.history(DispatchFilter(model="busy"))),
        ("all that a model's page asks", partial(_ask_for_page, store)),
    ):
        print(f"{name:32} {measure(ask, repeat):10.1f}")


def _ask_for_page(store: EventStore) -> None:
    """What `web.dispatches` asks to show the list of one model with its plots."""
    wanted = DispatchFilter(model="busy")
    store.page(wanted)
    for state in STATES:
        store.count(replace(wanted, state=state))
    store.history(wanted, limit=100)


if __name__ == "__main__":
    main()
