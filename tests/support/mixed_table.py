"""One table with a column of every kind, twice: complete, and with missing values; on every engine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from support.ways_in import WayIn

ROWS = 24
ASKED = 8  # of them; each kind of row is among these: a column has its holes in every fifth
REVIEWS = ("good film", "bad film", "great and good", "awful, bad", "a film", "good good bad")
_TYPES = {
    "tiny": {"mysql": "TINYINT", "postgres": "SMALLINT", "sqlite": "INTEGER"},
    "small": {"mysql": "SMALLINT UNSIGNED", "postgres": "SMALLINT", "sqlite": "INTEGER"},
    "whole": {"mysql": "INTEGER", "postgres": "INTEGER", "sqlite": "INTEGER"},
    "big": {"mysql": "BIGINT", "postgres": "BIGINT", "sqlite": "INTEGER"},
    "price": {"mysql": "DECIMAL(10, 2)", "postgres": "NUMERIC(10, 2)", "sqlite": "REAL"},
    "ratio": {"mysql": "DOUBLE", "postgres": "DOUBLE PRECISION", "sqlite": "REAL"},
    "flag": {"mysql": "BOOLEAN", "postgres": "BOOLEAN", "sqlite": "INTEGER"},
    "city": {"mysql": "VARCHAR(40)", "postgres": "VARCHAR(40)", "sqlite": "TEXT"},
    "review": {"mysql": "VARCHAR(80)", "postgres": "TEXT", "sqlite": "TEXT"},
    "day": {"mysql": "DATE", "postgres": "DATE", "sqlite": "TEXT"},
    "moment": {"mysql": "DATETIME", "postgres": "TIMESTAMP", "sqlite": "TEXT"},
}
KINDS = tuple(_TYPES)


# SQLite's ODBC driver refuses everything else.
_ODBC_SQLITE_KINDS = ("tiny", "small", "whole", "big", "flag", "city", "review", "day")


@dataclass(frozen=True)
class MixedTable:
    """What the notebook reads, and what each way in reads of the first `ASKED` rows, in batches."""

    engine: str
    frame: pd.DataFrame
    batches: dict[str, dict[int, list[pa.RecordBatch]]]  # way -> rows of a batch -> batches

    @property
    def has_dates(self) -> bool:
        return self.engine != "sqlite"  # it keeps them as text


def mixed_table(ways: list[WayIn], sizes: tuple[int, ...]) -> MixedTable:
    """Make the table in the database of the first way, and read it by all."""
    first = ways[0]
    columns = ", ".join(f"{kind} {types[first.engine]}" for kind, types in _TYPES.items())
    holes = ", ".join(f"{kind}_or_null {types[first.engine]}" for kind, types in _TYPES.items())
    first.execute(f"CREATE TABLE mixed (id INTEGER PRIMARY KEY, {columns}, {holes})")
    first.fill("mixed", _rows(first.engine))
    frame = _read_sql(first, "SELECT * FROM mixed ORDER BY id")
    batches: dict[str, dict[int, list[pa.RecordBatch]]] = {}
    for way in ways:
        kinds = _ODBC_SQLITE_KINDS if way.name == "odbc-sqlite" else KINDS
        names = ", ".join(name for kind in kinds for name in (kind, f"{kind}_or_null"))
        query = f"SELECT {names} FROM mixed WHERE id < {ASKED} ORDER BY id"
        with way.open() as database:
            batches[way.name] = {
                size: _of_size(database.read(query, batch_rows=size), size) for size in sizes
            }
    return MixedTable(first.engine, frame, batches)


def _of_size(rows: pa.RecordBatchReader, size: int) -> list[pa.RecordBatch]:
    """Batches as a driver makes them, which may be smaller than it was asked for, but never larger."""
    batches = list(rows)
    assert all(batch.num_rows <= size for batch in batches)
    assert sum(batch.num_rows for batch in batches) == ASKED
    return batches


def _rows(engine: str) -> list[tuple[Any, ...]]:
    random = np.random.default_rng(4)
    rows = []
    for number in range(ROWS):
        day = date(2025, 1, 1) + timedelta(days=number % 5)
        moment = datetime(2025, 1, 1, 12) + timedelta(hours=7 * number)
        values: list[Any] = [
            number % 4 - 1,
            number % 3 * 10,
            number * 1000,
            50_000 + number,
            Decimal(number * 7) / 4,
            float(random.normal()),
            number % 2 == 0,
            ("Rome", "Oslo", "Bern")[number % 3],
            REVIEWS[number % len(REVIEWS)],
            day.isoformat() if engine == "sqlite" else day,
            moment.isoformat(" ") if engine == "sqlite" else moment,
        ]
        if engine == "sqlite":
            values[4] = float(values[4])
        holes = [None if (number + place) % 5 == 0 else value for place, value in enumerate(values)]
        rows.append((number, *values, *holes))
    return rows


def _read_sql(way: WayIn, query: str) -> pd.DataFrame:
    url = way.server.sqlalchemy_url() if way.server else f"sqlite:///{way.spec.host}"
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        frame = pd.read_sql(sa.text(query), connection)
    engine.dispose()
    return frame
