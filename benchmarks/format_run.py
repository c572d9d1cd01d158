"""One process of the benchmark of formats: a dispatch, or the script that calls a library by hand.

Its last line has the seconds by the clock, those of the processor with all children, and the peak memory of
the largest process in MB. The clock starts before any library is imported.

    python -m benchmarks.format_run dispatch CONFIG MODEL
    python -m benchmarks.format_run FORMAT FOLDER ROWS CHUNK_ROWS
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def dispatch(config: str, name: str) -> None:
    """All steps of a model, as `execution: together` runs them."""
    from mlops_plugin.config.loader import load_config
    from mlops_plugin.pipeline.deployment import Deployment
    from mlops_plugin.pipeline.dispatch import Dispatch, new_dispatch_id
    from mlops_plugin.pipeline.runner import run_dispatch

    loaded = load_config(Path(config))
    model = loaded.model(name)
    deployment = Deployment.of_airflow(loaded.config.events, loaded.config.staging)
    now = datetime.now(UTC)
    asked = Dispatch(id=new_dispatch_id(), model=model, origin="terminal", data_interval=(now, now))
    run_dispatch(asked, deployment, lambda: model.source.query, _unwatched)


@contextmanager
def _unwatched(_step: str) -> Iterator[Callable[[int], None]]:
    yield lambda rows: None  # noqa: ARG005


def by_hand(kind: str, folder: str, rows: str, chunk_rows: str) -> None:
    """Read, predict and write, chunk by chunk."""
    import sqlite3

    import pandas as pd

    predict = _predictor(kind, f"{folder}/m.{kind}")
    source = sqlite3.connect(f"{folder}/source.db")
    with sqlite3.connect(f"{folder}/sink.db") as sink:
        table = f"{kind}_by_hand"
        sink.execute(f"DROP TABLE IF EXISTS {table}")
        columns = "id INTEGER PRIMARY KEY, prediction INTEGER, probability_0 REAL, probability_1 REAL"
        sink.execute(f"CREATE TABLE {table} ({columns})")
        query = f"SELECT * FROM x WHERE id < {int(rows)}"
        for frame in pd.read_sql(query, source, chunksize=int(chunk_rows)):
            answers = predict(frame.drop(columns="id"))
            found = pd.DataFrame({"id": frame["id"], "prediction": answers.argmax(axis=1)})
            found["probability_0"], found["probability_1"] = answers[:, 0], answers[:, 1]
            found.to_sql(table, sink, if_exists="append", index=False)
    sink.close()
    source.close()


def _predictor(kind: str, path: str) -> Callable[[Any], Any]:
    """The library's own way from rows to the probabilities of both classes."""
    import numpy as np

    if kind == "lightgbm":
        import lightgbm

        booster = lightgbm.Booster(model_file=path)

        def ask(frame: Any) -> Any:
            second = np.asarray(booster.predict(frame))
            return np.column_stack([1.0 - second, second])

        return ask
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda frame: session.run(None, {"X": frame.to_numpy(np.float32)})[1]
    model: Any
    if kind == "xgboost":
        from xgboost import XGBClassifier

        model = XGBClassifier()
        model.load_model(bytearray(Path(path).read_bytes()))
    else:
        from catboost import CatBoostClassifier

        model = CatBoostClassifier()
        model.load_model(path)
    return lambda frame: model.predict_proba(frame)


def main() -> None:
    """Run what the arguments say, and print what it took."""
    what, *arguments = sys.argv[1:]
    import airflow.sdk  # noqa: F401 - every task has it anyway

    began, cpu_began = time.perf_counter(), time.process_time()
    if what == "dispatch":
        dispatch(*arguments)
    else:
        by_hand(what, *arguments)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Not what `getrusage` says of this process: that has the memory of whoever started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    own_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    peak_mb = max(children.ru_maxrss, own_kb) / 1024
    print(seconds, cpu_s + children.ru_utime + children.ru_stime, peak_mb)


if __name__ == "__main__":
    main()
