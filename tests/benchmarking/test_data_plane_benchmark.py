"""The dispatch, the script that it is measured beside, and the floors write the same predictions."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.places import SCRIPT_TABLE, TABLE, UPSERTED, Place, open_place

ROWS = 400
MODEL = "LogisticRegression"


@pytest.mark.long
def test_all_that_is_compared_writes_the_same_predictions() -> None:
    with open_place("mysql", ROWS) as place:
        place.dispatch(MODEL)
        by_dispatch = predictions(place, TABLE)
        place.script(MODEL)
        assert predictions(place, SCRIPT_TABLE) == by_dispatch
        place.write_alone()
        assert predictions(place, TABLE) == by_dispatch
        place.configure(MODEL, mode="upsert", table=UPSERTED)
        place.upsert(MODEL)
        place.upsert_alone()
        assert predictions(place, UPSERTED) == by_dispatch


def predictions(place: Place, table: str) -> list[tuple[Any, ...]]:
    """Key, class and probabilities; the last bits depend on the order of a matrix in memory."""
    found = place.way.rows(
        f"SELECT id, prediction, ROUND(probability_0, 9), ROUND(probability_1, 9) FROM {table} ORDER BY id"
    )
    assert len(found) == ROWS
    return found
