"""The dispatch and the script that it is measured beside do the same work."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.warehouse import SCRIPT_TABLE, TABLE, Warehouse, open_warehouse

ROWS = 400
MODEL = "LogisticRegression"


@pytest.mark.long
def test_the_dispatch_and_its_peer_write_the_same_predictions() -> None:
    with open_warehouse(ROWS, columns=4) as warehouse:
        warehouse.configure(MODEL, {"partitions": {"column": "id", "count": 2}}, {})
        warehouse.dispatch(MODEL, partitions=2)
        by_dispatch = predictions(warehouse, TABLE)
        warehouse.ordinary(MODEL, 150)
        assert predictions(warehouse, SCRIPT_TABLE) == by_dispatch


def predictions(warehouse: Warehouse, table: str) -> list[tuple[Any, ...]]:
    """Key, class and probabilities; the last bits depend on the order of a matrix in memory."""
    found = warehouse.database.rows(
        f"SELECT id, prediction, ROUND(probability_0, 9), ROUND(probability_1, 9) FROM {table} ORDER BY id"
    )
    assert len(found) == ROWS
    return found
