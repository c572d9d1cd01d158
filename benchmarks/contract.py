"""What a contract over 20 columns costs a dispatch, and what a cursor does, beside the same dispatch without.

A private MariaDB holds the rows; each dispatch collects, logs, infers and persists them in this process, with
and without `input:` by turns. Every column has a type, may not be missing, and has a range. Beside it, the
same contract where one row in two hundred breaks it, the contract alone, and a cursor that reads all rows.

    python -m benchmarks.contract [--rows 1000000] [--repeat 3] [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import skops.io
import yaml
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from benchmarks.report.results import Result, result, show, store
from benchmarks.warehouse import SERVER_OPTIONS, Spent
from mlops_plugin.config.loader import load_config
from mlops_plugin.config.schema import ColumnContract, ModelConfig
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import STEPS, Dispatch, new_dispatch_id
from mlops_plugin.pipeline.runner import run_step
from mlops_plugin.pipeline.validation.contract import Contract
from support.servers import start_mariadb

COLUMNS = tuple(f"x{number}" for number in range(20))
RULE = {"type": "number", "nullable": False, "min": -2, "max": 2}
STRICT = {**RULE, "max": 1.98}  # on one column: one row in two hundred
ESTIMATORS = {
    "LogisticRegression": LogisticRegression,
    "HistGradientBoosting": HistGradientBoostingClassifier,
}
IN_ONE_PROCESS = "dispatch in one process"
NAMES = {
    "without": IN_ONE_PROCESS,
    "with": f"{IN_ONE_PROCESS}, with a contract",
    "rejecting": f"{IN_ONE_PROCESS}, with a contract that one row in 200 breaks",
    "upsert": f"{IN_ONE_PROCESS}, mode upsert",
    "cursor": f"{IN_ONE_PROCESS}, mode upsert, with a cursor",
}
PEERS = {"with": "without", "rejecting": "without", "cursor": "upsert"}
UPSERT = {"mode": "upsert"}  # a cursor needs it
_TRAINING_ROWS = 5_000
_FILL_ROWS = 100_000
BATCH_ROWS = 50_000


def ways(rows: int) -> dict[str, dict[str, Any]]:
    """What is compared, by its name in a model's entry; `rows` bounds the ids."""
    rejecting = {**dict.fromkeys(COLUMNS, RULE), COLUMNS[0]: STRICT}
    return {
        "without": {},
        "with": {"input": {"columns": dict.fromkeys(COLUMNS, RULE)}},
        "rejecting": {"input": {"columns": rejecting}, "error_threshold": "2%"},
        "upsert": {"sink": UPSERT},
        # It steps back over all rows, so that every dispatch reads as many as one without a cursor.
        "cursor": {"source": {"cursor": {"column": "id", "lag": rows}}, "sink": UPSERT},
    }


@contextlib.contextmanager
def deployment(rows: int) -> Iterator[Path]:
    """A config.yaml over a private server, with one model for each estimator and way."""
    with tempfile.TemporaryDirectory() as name, start_mariadb(*SERVER_OPTIONS, is_durable=True) as server:
        folder, database, events = Path(name), server.new_database(), server.new_database()
        database.execute(
            f"CREATE TABLE measurements (id BIGINT PRIMARY KEY, "
            f"{', '.join(f'{column} DOUBLE NOT NULL' for column in COLUMNS)})"
        )
        values = ", ".join("RAND() * 4 - 2" for _ in COLUMNS)
        for first in range(1, rows + 1, _FILL_ROWS):
            last = min(first + _FILL_ROWS - 1, rows)
            database.execute(f"INSERT INTO measurements SELECT seq, {values} FROM seq_{first}_to_{last}")
        os.environ |= {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_WAREHOUSE": database.airflow_uri("odbc"),
            "AIRFLOW_CONN_EVENTS": events.airflow_uri(),
        }
        _configure(folder, rows)
        loaded = load_config(folder / "config.yaml").config
        with Deployment.of_airflow(loaded.events, loaded.staging).event_store() as store:
            upgrade(store.address)
        yield folder / "config.yaml"


def _configure(folder: Path, rows: int) -> None:
    rng = np.random.default_rng(7)
    training = pd.DataFrame(rng.uniform(-2, 2, (_TRAINING_ROWS, len(COLUMNS))), columns=list(COLUMNS))
    answers = (training.sum(axis=1) + rng.normal(size=len(training)) > 0).astype(int)
    entries = {}
    for name, kind in ESTIMATORS.items():
        skops.io.dump(kind().fit(training, answers), folder / f"{name}.skops")
        artifact = {
            "format": "skops",
            "uri": f"{name}.skops",
            "trusted": ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
        }
        for way, changes in ways(rows).items():
            source = {"connection": "warehouse", "query": "SELECT * FROM measurements"}
            table = {"table": f"{name}_{way}", "mode": "append", "create": True}
            sink = {"connection": "warehouse", **table}
            entries[f"{name}_{way}"] = {
                "key": ["id"],
                "model": artifact,
                **changes,
                "source": {**source, **changes.get("source", {})},
                "sink": {**sink, **changes.get("sink", {})},
            }
    sections = {"events": {"connection": "events"}, "staging": {"url": str(folder / "staging")}}
    (folder / "config.yaml").write_text(yaml.safe_dump({**sections, "models": entries}))


def dispatch(config: Path, name: str) -> Spent:
    """All four steps, here and now."""
    loaded = load_config(config)
    model: ModelConfig = loaded.model(name)
    here = Deployment.of_airflow(loaded.config.events, loaded.config.staging)
    one = Dispatch(id=new_dispatch_id(), model=model, origin="manual")
    began, cpu = time.perf_counter(), time.process_time()
    for step in STEPS:
        run_step(step, one, here, query=lambda: model.source.query)
    return Spent(time.perf_counter() - began, time.process_time() - cpu, 0.0)


def check_alone(rows: int) -> float:
    """Seconds for the contract on as many rows, from memory."""
    rng = np.random.default_rng(7)
    columns = [pa.array(rng.uniform(-2, 2, BATCH_ROWS)) for _ in COLUMNS]
    batch = pa.RecordBatch.from_arrays(columns, names=list(COLUMNS))
    rules = dict.fromkeys(COLUMNS, ColumnContract.model_validate(RULE))
    bound = Contract("bench", rules).bind(batch.schema)
    began = time.perf_counter()
    for _ in range(max(rows // BATCH_ROWS, 1)):
        bound.check(batch)
    return time.perf_counter() - began


def compare(config: Path, estimator: str, rows: int, repeat: int) -> Iterator[Result]:
    """Every way by turns; CPU seconds are this process's, without the server's."""
    runs: dict[str, list[Spent]] = {way: [] for way in NAMES}
    for way in runs:
        dispatch(config, f"{estimator}_{way}")  # what is imported first is not counted
    for _ in range(repeat):
        for way, spent in runs.items():
            spent.append(dispatch(config, f"{estimator}_{way}"))
    for way, name in NAMES.items():
        peer = (NAMES[PEERS[way]], runs[PEERS[way]]) if way in PEERS else None
        yield result(name, runs[way], rows=rows, columns=len(COLUMNS), model=estimator, peer=peer)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="50,000 rows once; keeps nothing")
    options = parser.parse_args(arguments)
    rows, repeat = (50_000, 1) if options.quick else (options.rows, options.repeat)
    logging.disable(logging.INFO)
    print(f"{rows} rows, a contract over {len(COLUMNS)} columns; medians of {repeat}")
    with deployment(rows) as config:
        for estimator in ESTIMATORS:
            for each in compare(config, estimator, rows, repeat):
                show([each])
                if not options.quick:
                    store([each])
    print(f"the contract alone, from memory: {check_alone(rows):.2f} s")
    logging.disable(logging.NOTSET)


if __name__ == "__main__":
    main()
