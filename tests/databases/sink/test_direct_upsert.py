"""Mode upsert over `mysql`: rows of whole-number keys go straight into the table, and are counted there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_plugin.databases.sink.write_request import WriteRequest, Written
from mlops_plugin.databases.sink.writer import write_predictions
from mlops_plugin.errors import KeyColumnError, SinkError
from support.servers import Server
from support.sinks import predictions, registration, sink_config
from support.statement_log import logged_statements
from support.ways_in import WayIn, way_in


@pytest.fixture(params=["mysql"])  # a parameter, so that these tests are marked to need a server
def way(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    return replace(way_in(request.param, request, tmp_path), is_narrow=True)


def upsert(way: WayIn, number: int, rows: pa.Table, *, key: tuple[str, ...] = ("id",)) -> Written:
    request = WriteRequest(
        sink_config("upsert"), key, f"d{number}", registration=registration(number), is_narrow=True
    )
    with way.open() as database:
        return write_predictions(database, request, rows.to_reader(max_chunksize=1_000))


def stages(server: Server) -> int:
    """How many temporary tables the log that was on last has seen."""
    ((found,),) = server.administration.rows(
        "SELECT COUNT(*) FROM mysql.general_log WHERE argument LIKE 'CREATE TEMPORARY TABLE%'"
    )
    return int(found)


def test_rows_of_whole_number_keys_need_no_temporary_table(way: WayIn, mariadb: Server) -> None:
    upsert(way, 10, predictions([1, 2]))
    with logged_statements(mariadb):
        assert upsert(way, 20, predictions([2, 3], [0.7, 0.8])) == Written(2)
    assert stages(mariadb) == 0
    assert way.stored() == [(1, 0.5, "d10"), (2, 0.7, "d20"), (3, 0.8, "d20")]


def test_older_dispatch_and_texts_that_a_collation_compares_take_one(way: WayIn, mariadb: Server) -> None:
    upsert(way, 20, predictions([2, 3]))
    with logged_statements(mariadb):
        assert upsert(way, 10, predictions([1, 2], [0.1, 0.1])) == Written(1, 1)
    assert stages(mariadb) == 1
    way.execute("DROP VIEW predictions", "DROP TABLE predictions_rows")
    upsert(way, 30, predictions(["a", "b"]))
    with logged_statements(mariadb):
        assert upsert(way, 40, predictions(["b", "c"])) == Written(2)
    assert stages(mariadb) == 1


def test_requests_do_not_grow_with_the_rows(way: WayIn, mariadb: Server) -> None:
    assert way.server is not None
    requests = []
    for number, rows in enumerate((5_000, 3, 900, 900, 5_000), start=1):
        with logged_statements(mariadb) as log:
            assert upsert(way, number, predictions(range(rows))) == Written(rows)
        requests.append(log.count(way.server))
    # Few rows of a large table are counted by their keys. Further batches, of a thousand, cost one each.
    few, some, others, many = requests[1:]
    assert (some, others, many) == (few, few, few + 4)


def test_several_numbers_are_a_key(way: WayIn) -> None:
    both = {"shop": pa.array([1, 1, 2] * 50, pa.int16())}
    ids = pa.array([number // 3 for number in range(150)], pa.int32())
    with pytest.raises(KeyColumnError, match="id = 0, shop = 1 occurs 2 times"):
        upsert(way, 10, predictions(ids, **both), key=("id", "shop"))
    shops = {"shop": pa.array([1, 3, 2] * 50, pa.int16())}
    assert upsert(way, 20, predictions(ids, **shops), key=("id", "shop")) == Written(150)
    few = predictions([7, 8], [0.7, 0.8], shop=pa.array([3, 3], pa.int16()))
    assert upsert(way, 30, few, key=("id", "shop")) == Written(2)
    assert way.stored("id, shop, prediction", "predictions WHERE dispatch_id = 'd30'") == [
        (7, 3, 0.7),
        (8, 3, 0.8),
    ]


def test_key_that_occurs_again_in_a_later_batch_leaves_the_table_as_it_was(way: WayIn) -> None:
    upsert(way, 10, predictions(range(10)))
    with pytest.raises(KeyColumnError, match="id = 4 occurs 2 times"):
        upsert(way, 20, predictions([*range(5, 2_000), 4, 4], [0.1] * 1_997))
    assert way.stored() == [(number, 0.5, "d10") for number in range(10)]


def test_row_that_a_trigger_keeps_from_its_dispatch_is_missed(way: WayIn) -> None:
    upsert(way, 10, predictions([1, 2]))
    way.execute(
        "CREATE TRIGGER kept BEFORE UPDATE ON predictions_rows FOR EACH ROW "
        "SET NEW.mlops_dispatch = OLD.mlops_dispatch"
    )
    with pytest.raises(SinkError, match="3 rows were sent to predictions, but 1 arrived"):
        upsert(way, 20, predictions([1, 2, 3], [0.7] * 3))
    assert way.stored() == [(1, 0.5, "d10"), (2, 0.5, "d10")]
