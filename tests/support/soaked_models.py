"""The models of a soak and the table that they read.

Every model answers with the version of its row, so each prediction says which version it was made of.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from sklearn.linear_model import LinearRegression

from support.servers import ServerDatabase
from support.workshop import Workshop

KEYS = 40
_SHARE_OF_BAD = 0.1
_SHARE_OF_DELETED = 0.05
_CONTRACT: dict[str, Any] = {
    "input": {"columns": {"b": {"type": "number", "nullable": False}}},
    "error_threshold": KEYS,
}
_PARTS = {"column": "id", "count": 3}
_PAGES = {"column": "id", "rows": 10}
# What the product can do, used together.
MODELS: dict[str, dict[str, Any]] = {
    "upserting": {
        "source": {"connection": "by_odbc", "pages": _PAGES},
        "sink": {"connection": "by_odbc"},
        **_CONTRACT,
    },
    "appending": {"sink": {"mode": "append"}, "source": {"partitions": _PARTS}},
    "replacing": {"sink": {"mode": "replace"}, "source": {"pages": _PAGES}, **_CONTRACT},
    "following": {"source": {"cursor": {"column": "version"}}, **_CONTRACT},
    "divided": {"source": {"partitions": _PARTS}, **_CONTRACT},
    "skipping": {
        "source": {"connection": "sink", "skip_predicted": True},
        "sink": {"mode": "append"},
        **_CONTRACT,
    },
    "elsewhere": {"source": {"cursor": {"column": "version"}}, "sink": {"connection": "second"}},
}


def sink_of(name: str) -> dict[str, Any]:
    """The model's sink: connection and mode."""
    return {"connection": "sink", "mode": "upsert", **MODELS[name].get("sink", {})}


def source_of(name: str) -> dict[str, Any]:
    """What the model's source has beside the query."""
    source: dict[str, Any] = MODELS[name].get("source", {})
    return source


def add_models(workshop: Workshop, models: Collection[str] = tuple(MODELS)) -> None:
    """Describe these; a step is tried again a few times, and then until somebody clears it."""
    values = np.arange(50.0)
    skops.io.dump(LinearRegression().fit(pd.DataFrame({"a": values}), values), workshop.folder / "echo.skops")
    workshop.models.clear()
    for name in models:
        changes = MODELS[name]
        source = {"query": "SELECT id, a, b, version FROM customers", **source_of(name)}
        again = {"retries": 8, "retry_delay": "1s", "retry_exponential_backoff": False, "task_timeout": "1m"}
        model = {"format": "skops", "uri": "echo.skops"}
        asked = {"max_active_runs": 3, **changes, "source": source}
        workshop.add_model(name, model=model, **again, **asked)


@dataclass
class Customers:
    """The source, and what it holds by our own account."""

    database: ServerDatabase
    version: int = 0
    rows: dict[int, tuple[int, bool]] = field(default_factory=dict)  # key: version, whether it is bad

    def create(self) -> None:
        self.database.execute(
            "CREATE TABLE customers (id INT PRIMARY KEY, a DOUBLE, b DOUBLE, version BIGINT NOT NULL)"
        )
        for key in range(KEYS):
            self.change(key, is_bad=False)

    def change_some(self, choose: random.Random) -> None:
        for key in choose.sample(range(KEYS), choose.randint(1, 5)):
            if choose.random() < _SHARE_OF_DELETED:
                self.delete(key)
            else:
                self.change(key, is_bad=choose.random() < _SHARE_OF_BAD)

    def change(self, key: int, *, is_bad: bool) -> None:
        version = self.version + 1
        b = "NULL" if is_bad else "1"
        self.database.execute(f"REPLACE INTO customers VALUES ({key}, {version}, {b}, {version})")
        self.version, self.rows[key] = version, (version, is_bad)

    def delete(self, key: int) -> None:
        self.database.execute(f"DELETE FROM customers WHERE id = {key}")
        self.rows.pop(key, None)

    @property
    def last_version(self) -> int:
        """Of the rows that are there."""
        return max((version for version, _ in self.rows.values()), default=0)
