"""The ordinary way to predict a table, as people write it: pandas over SQLAlchemy or DuckDB's package."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import skops.io
import sqlalchemy as sa

DUCKDB = "duckdb:///"


def load_model(artifact: str, trusted: list[str]) -> Any:
    """The estimator in a skops file."""
    return skops.io.load(artifact, trusted=trusted)


def predict_table(url: str, model: Any, query: str, table: str, chunk_rows: int | None) -> None:
    """Read the query's rows, predict, and append the predictions, whole or chunk by chunk.

    The columns are those that a sink shows, into a table with the same keys. `url` is SQLAlchemy's, or
    `duckdb:///PATH`.
    """
    constants = {
        "dispatch_id": str(uuid.uuid4()),
        "model": "ordinary",
        "artifact_sha256": "0" * 64,
        "predicted_at": datetime.now(UTC).replace(tzinfo=None),
    }
    if url.startswith(DUCKDB):
        _predict_in_duckdb(url.removeprefix(DUCKDB), model, query, table, constants)
        return
    address = sa.make_url(url)
    # PyMySQL encodes a password as Latin-1 unless it is bytes.
    login = {"password": (address.password or "").encode()} if address.drivername.endswith("pymysql") else {}
    engine = sa.create_engine(address, connect_args=login)
    with engine.begin() as writing, engine.connect() as other:
        # SQLite's second connection would wait for what the first one holds, with every page that is written.
        reading = writing if address.drivername == "sqlite" else other
        # Without it the driver fetches the whole result before the first chunk.
        reading = reading.execution_options(stream_results=chunk_rows is not None)
        rows = pd.read_sql(sa.text(query), reading, chunksize=chunk_rows)
        for frame in [rows] if chunk_rows is None else rows:
            predictions = _predicted(model, frame, constants)
            predictions.to_sql(table, writing, if_exists="append", index=False)
    engine.dispose()


def _predict_in_duckdb(
    path: str, model: Any, query: str, table: str, constants: Mapping[str, object]
) -> None:
    """Whole: both sides are columns in memory, and chunks would cost more."""
    import duckdb

    with duckdb.connect(path) as connection:
        predictions = _predicted(model, connection.execute(query).df(), constants)
        connection.register("predictions_of_now", predictions)
        connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM predictions_of_now")


def _predicted(model: Any, frame: pd.DataFrame, constants: Mapping[str, object]) -> pd.DataFrame:
    probabilities = model.predict_proba(frame[list(model.feature_names_in_)])
    predictions = pd.DataFrame(
        {"id": frame["id"], "prediction": model.classes_[np.argmax(probabilities, axis=1)]}
    )
    for position, label in enumerate(model.classes_):
        predictions[f"probability_{label}"] = probabilities[:, position]
    return predictions.assign(**constants)
