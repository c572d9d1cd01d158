"""Keys of many texts on MySQL: the columns of an index share its room, or `mlops check` says they cannot."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mlops_plugin.databases.sink.predictions_table import check_table
from mlops_plugin.errors import SinkError
from support.sinks import Mode, predictions, sink_config
from support.ways_in import WayIn


def _rows(count: int, text: str = "ä") -> tuple[list[str], pa.Table]:
    names = [f"k{number}" for number in range(count)]
    keys = {name: pa.array([text, f"{text[:-1]}b"]) for name in names}
    return names, predictions([1, 2], **keys).drop_columns(["id"])


@pytest.mark.parametrize(
    ("mode", "count", "characters"),
    [("append", 2, 255), ("append", 3, 192), ("upsert", 3, 255), ("upsert", 4, 192), ("upsert", 16, 48)],
)
def test_texts_of_a_key_share_the_room_of_an_index(
    mode: Mode, count: int, characters: int, mariadb_way: WayIn
) -> None:
    names, rows = _rows(count, "ä" * characters)
    assert mariadb_way.write(rows, mode, key=names) == 2
    assert mariadb_way.write(rows, mode, key=names) == 2
    declared = mariadb_way.rows(
        "SELECT DISTINCT column_type FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND column_name LIKE 'k%'"
    )
    # In mode append the index holds the dispatch as well: its id, a text, or the number of narrow rows.
    widest = 253 if mariadb_way.is_narrow and (mode, count) == ("append", 3) else characters
    assert declared == [(f"varchar({widest})",)]


def test_a_key_of_every_type_fits_into_an_index(mariadb_way: WayIn) -> None:
    keys = {
        "number": pa.array([1, 2]),
        "amount": pa.array([1, 2]).cast(pa.decimal128(38, 2)),
        "bytes": pa.array([b"a", b"b"]),
        "word": pa.array(["a", "b"]),
        "other": pa.array(["a", "b"]),
        "at": pa.array([1, 2], pa.timestamp("us")),
    }
    rows = predictions([1, 2], **keys).drop_columns(["id"])
    assert mariadb_way.write(rows, "append", key=list(keys)) == 2


def test_a_text_that_is_too_long_for_its_key_is_refused_by_name(mariadb_way: WayIn) -> None:
    names, rows = _rows(4, "x" * 193)
    with pytest.raises(SinkError, match=r"'k0'.* row 1 .*192 characters"):
        mariadb_way.write(rows, "upsert", key=names)


@pytest.mark.parametrize(("mode", "count"), [("append", 16), ("upsert", 17)])
def test_a_key_of_too_many_columns_is_found_by_the_check(mode: Mode, count: int, mariadb_way: WayIn) -> None:
    names, rows = _rows(count)
    with mariadb_way.open() as database, pytest.raises(SinkError, match=r"17 columns.* 16 in an index"):
        check_table(database, sink_config(mode), key=names, schema=rows.schema)
