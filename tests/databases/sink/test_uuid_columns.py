"""A user's own table may hold keys and dispatches in columns of the engine's UUID type."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_plugin.databases.sink.write_request import Order, Registration, WriteRequest, Written
from mlops_plugin.databases.sink.writer import write_predictions
from support.sinks import AT, Mode, predictions, sink_config
from support.ways_in import WayIn, way_in

FIRST, SECOND = (str(uuid.UUID(int=number)) for number in (1, 2))
OLDER, NEWER = (str(uuid.UUID(int=number)) for number in (11, 12))


@pytest.fixture(params=("odbc-mariadb", "mysql", "odbc-postgres", "postgres", "duckdb"))
def way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    """The ways into engines that have the type."""
    return way_in(request.param, request, tmp_path)


def write(
    way: WayIn,
    dispatch: str,
    number: int,
    ids: Sequence[str],
    value: float,
    mode: Mode,
    only_new: str | None = None,
) -> Written:
    rows = predictions(pa.array(ids), [value] * len(ids), dispatch=dispatch)
    registration = Registration(Order(number), "churn", "ab" * 32, AT)
    request = WriteRequest(
        sink_config(mode), ("id",), dispatch, distinct_by_artifact=only_new, registration=registration
    )
    with way.open() as database:
        return write_predictions(database, request, rows.to_reader())


def create(way: WayIn, mode: Mode, *, is_unique: bool = True) -> None:
    time = "DATETIME(6)" if way.engine == "mysql" else "TIMESTAMPTZ"
    key = f", PRIMARY KEY (id{', dispatch_id' if mode == 'append' else ''})" if is_unique else ""
    way.execute(
        f"CREATE TABLE predictions (id UUID, prediction DOUBLE PRECISION, dispatch_id UUID, model "
        f"VARCHAR(99), artifact_sha256 CHAR(64), predicted_at {time}{key})"
    )


def stored(way: WayIn) -> list[tuple[str, str, float]]:
    rows = way.rows("SELECT id, dispatch_id, prediction FROM predictions")
    return sorted((str(one), str(dispatch), value) for one, dispatch, value in rows)


@pytest.mark.parametrize("is_unique", [True, False])
def test_an_upsert_leaves_newer_rows_alone(way: WayIn, is_unique: bool) -> None:
    create(way, "upsert", is_unique=is_unique)
    assert write(way, NEWER, 2, [FIRST], 0.5, "upsert") == Written(1)
    assert write(way, OLDER, 1, [FIRST, SECOND], 0.25, "upsert") == Written(1, 1)
    assert write(way, OLDER, 1, [FIRST, SECOND], 0.25, "upsert") == Written(1, 1)  # a retry
    assert stored(way) == [(FIRST, NEWER, 0.5), (SECOND, OLDER, 0.25)]
    assert write(way, NEWER, 3, [FIRST, SECOND], 0.75, "upsert") == Written(2)
    assert stored(way) == [(FIRST, NEWER, 0.75), (SECOND, NEWER, 0.75)]


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_other_modes_count_what_they_wrote(way: WayIn, mode: Mode) -> None:
    create(way, mode)
    for number, dispatch in ((1, OLDER), (1, OLDER), (2, NEWER)):
        assert write(way, dispatch, number, [FIRST, SECOND], 0.5, mode) == Written(2)
    assert len(stored(way)) == (4 if mode == "append" else 2)


def test_an_append_of_each_key_once_leaves_predicted_ones_out(way: WayIn) -> None:
    create(way, "append")
    assert write(way, OLDER, 1, [FIRST], 0.5, "append", only_new="ab" * 32) == Written(1)
    again = write(way, NEWER, 2, [FIRST, SECOND], 0.25, "append", only_new="ab" * 32)
    assert again == Written(1, 1)
    assert stored(way) == [(FIRST, OLDER, 0.5), (SECOND, NEWER, 0.25)]
