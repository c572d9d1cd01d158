"""A private MariaDB with rows to predict, trained models and a deployment over it, for `growing`.

Every run happens in a process of its own (`data_plane.step`) and leaves its seconds, the CPU seconds of
itself and of the server, and its peak memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skops.io
import yaml
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.migrating import upgrade
from support.event_stories import connection_of
from support.servers import Server, start_mariadb

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = {"LogisticRegression": LogisticRegression, "HistGradientBoosting": HistGradientBoostingClassifier}
TABLE = "predictions"
TRUSTED = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
_TRAINING_ROWS = 5_000
_FILL_ROWS = 100_000
_RANDOM_VALUES = 20_000_000
# As in production: room for the rows. Both sides write to it.
SERVER_OPTIONS = (
    "--innodb-buffer-pool-size=2G",
    "--innodb-log-file-size=1G",
    "--max-allowed-packet=64M",
)
_DEBIAN_PACKAGES = Path("/usr/lib/python3/dist-packages")


def run_apart(task: Mapping[str, Any], environment: Mapping[str, str], *options: str) -> Spent:
    """Run a task in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.data_plane.step", "--task", json.dumps(task), *options],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{task} failed:\n{done.stderr[-3000:]}")
    return Spent(**json.loads(done.stdout.splitlines()[-1]))


@dataclass(frozen=True)
class Spent:
    """What a run cost. `cpu_s` includes the server's; `peak_mb` is the largest of its processes."""

    seconds: float
    cpu_s: float
    peak_mb: float
    import_s: float = 0.0
    import_cpu_s: float = 0.0

    def without_import(self) -> Spent:
        """As if its libraries had been loaded before."""
        return Spent(self.seconds - self.import_s, self.cpu_s - self.import_cpu_s, self.peak_mb)

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.seconds + other.seconds,
            self.cpu_s + other.cpu_s,
            max(self.peak_mb, other.peak_mb),
            self.import_s + other.import_s,
            self.import_cpu_s + other.import_cpu_s,
        )


class Warehouse:
    """Rows in table `measurements`, predictions into the sink `predictions`, events in a database beside."""

    def __init__(
        self, folder: Path, server: Server, rows: int, columns: int, models: Sequence[str] = tuple(MODELS)
    ) -> None:
        self.rows = rows
        self._folder = folder
        self._server = server
        self.database = server.new_database()
        self._events = server.new_database()
        self.columns = tuple(f"x{number}" for number in range(columns))
        self._fill()
        self._train(models)
        self._open_events()

    @property
    def query(self) -> str:
        return f"SELECT id, {', '.join(self.columns)} FROM measurements WHERE id <= {self.rows}"

    def artifact(self, model: str) -> Path:
        return self._folder / f"{model}.skops"

    def configure(self, model: str, source: Mapping[str, Any], sink: Mapping[str, Any]) -> None:
        """Write config.yaml with this model; the arguments are merged into its sections."""
        entries = {
            model: {
                "key": ["id"],
                "model": {"format": "skops", "uri": str(self.artifact(model)), "trusted": TRUSTED},
                "source": {"connection": "warehouse", "query": self.query, **source},
                "sink": {"connection": "warehouse", "table": TABLE, "mode": "append", "create": True, **sink},
                "retries": 0,
            }
        }
        sections = {"events": {"connection": "events"}, "staging": {"url": str(self._folder / "staging")}}
        self._config.write_text(yaml.safe_dump({**sections, "models": entries}))

    def remove(self, table: str = TABLE) -> None:
        """Leave no sink behind; the next dispatch makes one."""
        self.database.execute(f"DROP VIEW IF EXISTS {table}", f"DROP TABLE IF EXISTS {table}_rows")

    def dispatch(self, model: str, *, warm: bool = False, partitions: int = 0) -> dict[str, Spent]:
        """The steps of one dispatch, each in a process of its own, one after the other.

        With partitions, those of a step run side by side, two at once.
        """
        task = {"what": "step", "config": str(self._config), "model": model, "dispatch": str(uuid.uuid4())}
        parts = [{**task, "partition": number} for number in range(partitions)]
        steps: dict[str, list[dict[str, Any]]] = {
            "plan": [task],
            "collect": parts,
            "log": [task],
            "infer": parts,
            "persist": [task],
        }
        if not partitions:
            steps = {step: [task] for step in ("collect", "log", "infer", "persist")}
        return {
            step: self.side_by_side([{**each, "step": step} for each in tasks], warm=warm)
            for step, tasks in steps.items()
        }

    def side_by_side(self, tasks: Sequence[Mapping[str, Any]], *, warm: bool) -> Spent:
        """Run tasks, each in a process of its own, in two lanes; the longer lane's seconds count.

        Starting a process is not counted, as for Airflow, which does it before a task begins.
        """
        lanes = [lane for lane in (tasks[::2], tasks[1::2]) if lane]
        before = self._server_cpu_s()
        with ThreadPoolExecutor(len(lanes)) as pool:
            ran = list(pool.map(lambda lane: [self._run(task, warm=warm) for task in lane], lanes))
        nothing = Spent(0.0, self._server_cpu_s() - before, 0.0)
        spent = sum((each for lane in ran for each in lane), nothing)
        return replace(spent, seconds=max(sum(each.seconds for each in lane) for lane in ran))

    def _run(self, task: Mapping[str, Any], *, warm: bool) -> Spent:
        return run_apart(task, self._environment, *(["--warm"] if warm else []))

    @property
    def _config(self) -> Path:
        return self._folder / "config.yaml"

    @property
    def _environment(self) -> dict[str, str]:
        paths = [str(REPOSITORY / "plugins"), str(REPOSITORY / "tests"), str(REPOSITORY)]
        return {
            **os.environ,
            "AIRFLOW_HOME": str(self._folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_WAREHOUSE": self.database.airflow_uri("odbc"),
            "AIRFLOW_CONN_EVENTS": self._events.airflow_uri(),
            "PYTHONPATH": os.pathsep.join([*paths, str(self._folder / "peer")]),
            "PYTHONDONTWRITEBYTECODE": "",  # compiling at every import would be timed
        }

    def _fill(self) -> None:
        types = ", ".join(f"{name} DOUBLE NOT NULL" for name in self.columns)
        values = ", ".join("RAND() * 4 - 2" for _ in self.columns)
        self.database.execute(f"CREATE TABLE measurements (id BIGINT PRIMARY KEY, {types})")
        made = min(self.rows, _RANDOM_VALUES // len(self.columns))
        for first in range(1, made + 1, _FILL_ROWS):
            last = min(first + _FILL_ROWS - 1, made)
            self.database.execute(f"INSERT INTO measurements SELECT seq, {values} FROM seq_{first}_to_{last}")
        # Further rows have other keys and the same values: making random numbers takes several times as long.
        for offset in range(made, self.rows, made):
            self.database.execute(
                f"INSERT INTO measurements SELECT id + {offset}, {', '.join(self.columns)}"
                f" FROM measurements WHERE id <= {min(made, self.rows - offset)}"
            )
        self.database.execute("ANALYZE TABLE measurements")

    def _train(self, models: Sequence[str]) -> None:
        rng = np.random.default_rng(7)
        rows = pd.DataFrame(
            rng.uniform(-2, 2, (_TRAINING_ROWS, len(self.columns))), columns=list(self.columns)
        )
        answers = (rows.sum(axis=1) + rng.normal(size=len(rows)) > 0).astype(int)
        for name in models:
            skops.io.dump(MODELS[name]().fit(rows, answers), self.artifact(name))

    def _open_events(self) -> None:
        address = StoreAddress.of(EventsConfig(), connection_of(self._events), self._folder)
        upgrade(address)
        packages = self._folder / "peer"
        packages.mkdir()
        _, package = peer_driver()
        if package is not None:  # only this one, not everything that Debian has installed
            (packages / package.name).symlink_to(package)

    def _server_cpu_s(self) -> float:
        fields = Path(f"/proc/{self._server.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peer_driver() -> tuple[str, Path | None]:
    """SQLAlchemy's name of the peer's driver, and a package to lend to its process.

    mysqlclient has no wheels; Debian's python3-mysqldb is the same for Debian's Python version. Where
    neither is there, the peer uses PyMySQL, which is slower.
    """
    with contextlib.suppress(ImportError):
        import MySQLdb  # type: ignore[import-untyped]  # noqa: F401

        return "mysqldb", None
    package = _DEBIAN_PACKAGES / "MySQLdb"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    if (package / f"_mysql{suffix}").exists():
        return "mysqldb", package
    return "pymysql", None


@contextlib.contextmanager
def open_warehouse(
    rows: int, columns: int = 20, models: Sequence[str] = tuple(MODELS)
) -> Iterator[Warehouse]:
    """Start the server and fill it; everything is removed afterwards."""
    with tempfile.TemporaryDirectory() as name, start_mariadb(*SERVER_OPTIONS, is_durable=True) as server:
        yield Warehouse(Path(name), server, rows, columns, models)
