"""Models in the files of their libraries, and what a test asks of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.formats.runtime import Runtime, load_runtime

ROWS = 240
_RANDOM = np.random.default_rng(14)
NUMBERS = pd.DataFrame(
    {
        "a": np.where(_RANDOM.random(ROWS) < 0.1, np.nan, _RANDOM.normal(size=ROWS)),
        "b": _RANDOM.integers(-5, 5, ROWS).astype(float),
        "c": _RANDOM.exponential(size=ROWS),
    }
)
SCORE = NUMBERS.a.fillna(0.3) + NUMBERS.b / 5 + NUMBERS.c
# As pandas's users have them: texts with some missing, whole numbers, and one that is always the same.
SHOP = NUMBERS.assign(
    city=pd.Series(_RANDOM.choice(["rio", "oslo", "bern"], ROWS))
    .where(_RANDOM.random(ROWS) > 0.1)
    .astype("category"),
    store=pd.Categorical(_RANDOM.choice([30, 7, 12], ROWS)),
    land=pd.Categorical(["x"] * ROWS),
)
SHOP_SCORE = SCORE + (SHOP.city == "oslo") * 2 + (SHOP.store == 7)


def load(path: Path, kind: str, features: tuple[str, ...] | None = None, **model: Any) -> Runtime:
    """Load a file in this process."""
    artifact = ArtifactConfig.model_validate({"format": kind, "uri": str(path), **model})
    return load_runtime(artifact, features=features)


def as_queried(frame: pd.DataFrame) -> pa.RecordBatch:
    """The rows as a database returns them: categories are texts and numbers."""
    plain = {
        name: pa.array([None if pd.isna(value) else value for value in frame[name].tolist()])
        for name in frame.columns
    }
    return pa.RecordBatch.from_pydict(plain)


def assert_answers(runtime: Runtime, rows: pa.RecordBatch, *expected: Any) -> None:
    """The columns hold these values, bit for bit; alone, reversed and in batches as all together."""
    found = runtime.predict(rows)
    columns = [column.tolist() for each in expected for column in np.atleast_2d(np.asarray(each).T)]
    assert [column.to_pylist() for column in found.columns] == columns
    backwards = list(range(rows.num_rows))[::-1]
    assert runtime.predict(rows.take(pa.array(backwards))).equals(found.take(pa.array(backwards)))
    for place in (0, 1, 2, rows.num_rows - 1):
        assert runtime.predict(rows.slice(place, 1)).equals(found.slice(place, 1))
    assert runtime.predict(rows.slice(3, 40)).equals(found.slice(3, 40))
