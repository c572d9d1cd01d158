"""A dispatch of a model of each format, beside a script that calls the library by hand, chunk by chunk.

All read a table of SQLite and write predictions and probabilities into another one, each in a process of its
own that imports its libraries. The answers are compared. Last, a model with libraries of its own beside the
same one in the task's process; its environment has the same libraries.

    python -m benchmarks.formats [--rows 1000000] [--repeat 1] [--formats lightgbm onnx] [--quick]
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.report.results import Result, result, show, store
from benchmarks.warehouse import REPOSITORY, Spent
from support.small_wheels import write_stand_ins, write_wheel

FORMATS = ("lightgbm", "xgboost", "catboost", "onnx")
BY_FORMAT = "format "
_COLUMNS = 20
_QUICK_ROWS = 20_000
_TRAINED_ROWS = 20_000
_TREES = 50
_CHUNK_ROWS = 50_000
_OF_ENVIRONMENT = 3  # runs of each way: they are compared more closely
_SAME = {"onnx": 1e-6}  # threads of its script share the trees; all others are equal bit for bit
_OWN, _HERE = "own", "here"


class Bench:
    """Rows, models and a configuration in a folder."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        self.names = [f"f{number}" for number in range(_COLUMNS)]
        self._values = np.random.default_rng(0).normal(size=(max(rows, _TRAINED_ROWS), _COLUMNS))
        self._fill()
        self._models: dict[str, Any] = {}
        self._train()
        (folder / "config.yaml").write_text(yaml.safe_dump({"models": self._models}))
        self._mlops("db", "upgrade")
        self._mlops("environments", "sync", "--wheels", str(folder / "wheels"))

    def dispatch(self, name: str) -> Spent:
        """All steps of a dispatch in one process, and the model's own."""
        return self._run("benchmarks.format_run", "dispatch", str(self.folder / "config.yaml"), name)

    def by_hand(self, kind: str) -> Spent:
        """The script of this format."""
        return self._run("benchmarks.format_run", kind, str(self.folder), str(self.rows), str(_CHUNK_ROWS))

    def require_same(self, one: str, other: str, within: float = 0.0) -> None:
        """Raise if two tables hold other predictions, beyond this difference of probabilities."""
        found = []
        with sqlite3.connect(self.folder / "sink.db") as sink:
            for table in (one, other):
                columns = [row[1] for row in sink.execute(f"PRAGMA table_info({table})")]
                listed = ", ".join(name for name in columns if name == "id" or name.startswith("prob"))
                found.append(np.array(sink.execute(f"SELECT {listed} FROM {table} ORDER BY id").fetchall()))
        sink.close()
        if found[0].shape != found[1].shape or np.abs(found[0] - found[1]).max() > within:
            raise SystemExit(f"{one} and {other} do not hold the same predictions")

    def _fill(self) -> None:
        listed = ", ".join(f"{name} REAL" for name in self.names)
        with sqlite3.connect(self.folder / "source.db") as source:
            source.execute(f"CREATE TABLE x (id INTEGER PRIMARY KEY, {listed})")
            marks = ", ".join("?" * (_COLUMNS + 1))
            rows = ((number, *row) for number, row in enumerate(self._values[: self.rows].tolist()))
            source.executemany(f"INSERT INTO x VALUES ({marks})", rows)
        source.close()

    def _train(self) -> None:
        import joblib
        from catboost import CatBoostClassifier
        from lightgbm import LGBMClassifier
        from skl2onnx import to_onnx
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from xgboost import XGBClassifier

        rows = pd.DataFrame(self._values[:_TRAINED_ROWS], columns=self.names)
        target = (rows.iloc[:, :5].sum(axis=1) > 0).astype(int)
        few: dict[str, Any] = {"n_estimators": _TREES, "n_jobs": -1}
        folder = self.folder
        light = LGBMClassifier(**few, verbose=-1).fit(rows, target)
        light.booster_.save_model(folder / "m.lightgbm")
        XGBClassifier(**few).fit(rows, target).save_model(folder / "m.ubj")
        (folder / "m.ubj").rename(folder / "m.xgboost")
        cat = CatBoostClassifier(iterations=_TREES, verbose=False, allow_writing_files=False)
        cat.fit(rows, target).save_model(str(folder / "m.catboost"))
        forest = RandomForestClassifier(**few, max_depth=6).fit(rows.to_numpy(np.float32), target)
        graph = to_onnx(forest, rows.to_numpy(np.float32)[:1], options={"zipmap": False})
        (folder / "m.onnx").write_bytes(graph.SerializeToString())
        for kind in FORMATS:
            more = {"classes": [0, 1]} if kind == "lightgbm" else {}
            self._add(kind, {"format": kind, "uri": f"m.{kind}", **more})
        joblib.dump(LogisticRegression().fit(rows, target), folder / "m.joblib")
        pin = sha256((folder / "m.joblib").read_bytes()).hexdigest()
        plain = {"format": "joblib", "uri": "m.joblib", "sha256": pin}
        write_stand_ins(folder / "wheels")
        write_wheel(folder / "wheels", "nothing", "1.0", {"nothing.py": ""})
        (folder / "own.txt").write_text("nothing==1.0\n")
        python = "{}.{}".format(*sys.version_info[:2])
        self._add(_HERE, {**plain, "isolation": "none"})
        self._add(_OWN, {**plain, "environment": {"requirements": "own.txt", "python": python}})

    def _add(self, name: str, model: dict[str, Any]) -> None:
        self._models[name] = {
            "key": ["id"],
            "features": self.names,
            "model": model,
            "source": {"connection": "source", "query": "SELECT * FROM x", "batch_rows": _CHUNK_ROWS},
            "sink": {"connection": "sink", "table": name, "mode": "replace", "create": True},
        }

    def _run(self, module: str, *arguments: str) -> Spent:
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, env=self._environment, stdout=subprocess.PIPE, text=True, check=True)
        seconds, cpu_s, peak_mb = map(float, done.stdout.split()[-3:])
        return Spent(seconds, cpu_s, peak_mb)

    def _mlops(self, *words: str) -> None:
        config = ["--config", str(self.folder / "config.yaml")]
        command = [sys.executable, "-m", "mlops_plugin.cli", *config, *words]
        subprocess.run(command, env=self._environment, stdout=subprocess.DEVNULL, check=True)

    @property
    def _environment(self) -> dict[str, str]:
        paths = [str(REPOSITORY / "plugins"), str(REPOSITORY / "tests"), str(REPOSITORY)]
        return {
            **os.environ,
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW_CONN_SOURCE": f"sqlite:///{self.folder}/source.db",
            "AIRFLOW_CONN_SINK": f"sqlite:///{self.folder}/sink.db",
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "",
        }


def measure(bench: Bench, formats: Sequence[str], repeat: int) -> Iterator[Result]:
    """Each format beside its script, then both ways of one model beside each other."""
    for kind in formats:
        runs = [(bench.dispatch(kind), bench.by_hand(kind)) for _ in range(repeat)]
        bench.require_same(kind, f"{kind}_by_hand", _SAME.get(kind, 0.0))
        ours, theirs = (list(each) for each in zip(*runs, strict=True))
        script = f"{BY_FORMAT}{kind}, by hand in chunks of {_CHUNK_ROWS:,}"
        yield result(script, theirs, rows=bench.rows, columns=_COLUMNS)
        yield result(f"{BY_FORMAT}{kind}", ours, rows=bench.rows, columns=_COLUMNS, peer=(script, theirs))
    runs = [(bench.dispatch(_HERE), bench.dispatch(_OWN)) for _ in range(max(repeat, _OF_ENVIRONMENT))]
    bench.require_same(_HERE, _OWN)
    here, own = (list(each) for each in zip(*runs, strict=True))
    name = f"{BY_FORMAT}joblib, in the task's process"
    yield result(name, here, rows=bench.rows, columns=_COLUMNS)
    yield result(
        f"{BY_FORMAT}joblib, libraries of its own", own, rows=bench.rows, columns=_COLUMNS, peer=(name, here)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS)
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_ROWS} rows once; keeps nothing")
    options, _ = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mlops-formats-") as place:
        bench = Bench(Path(place), _QUICK_ROWS if options.quick else options.rows)
        results = []
        for found in measure(bench, options.formats, options.repeat):
            results.append(found)
            if not options.quick:
                store([found])
    show(results)


if __name__ == "__main__":
    main()
