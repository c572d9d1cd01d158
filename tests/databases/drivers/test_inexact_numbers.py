"""NUMERIC without a precision, as of an expression: a double for a model, refused by its type for a key."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from decimal import Decimal

import pytest

from mlops_plugin.errors import UnsupportedType
from support.ways_in import WayIn

WAYS = ("postgres", "odbc-postgres")
TOO_MANY_DIGITS = ("odbc-mariadb", *WAYS)
AVERAGES = (
    "SELECT id, AVG(a) AS mean, COALESCE(b, 0) AS b, EXTRACT(epoch FROM at) AS at FROM n GROUP BY id, b, at"
)


@pytest.fixture
def filled(way_named: Callable[[str], WayIn]) -> Callable[[str], WayIn]:
    def way_of(name: str) -> WayIn:
        way = way_named(name)
        way.execute(
            "DROP TABLE IF EXISTS n",
            "CREATE TABLE n (id INT, a INT, b NUMERIC(10,2), at TIMESTAMP, any_number NUMERIC)",
            "INSERT INTO n VALUES (1, 1, 0.10, '2026-01-02 03:04:05.678901', 1.5), "
            "(1, 2, 0.10, '2026-01-02 03:04:05.678901', 0.1)",
        )
        return way

    return way_of


@pytest.mark.parametrize("name", WAYS)
def test_what_only_a_model_reads_is_the_nearest_double_every_night(
    name: str, filled: Callable[[str], WayIn]
) -> None:
    way = filled(name)
    for mean, more in (
        (1.5, None),
        (5 / 3, "INSERT INTO n VALUES (1, 2, 0.10, '2026-01-02 03:04:05.678901')"),
    ):
        if more:
            way.execute(more)
        with way.open(exact_columns=("id",)) as database:
            rows = database.read(AVERAGES, batch_rows=10).read_all()
            assert database.describe(AVERAGES).equals(rows.schema)
        assert [str(kind) for kind in rows.schema.types[1:]] == ["double"] * 3
        (row,) = rows.to_pylist()
        assert (row["mean"], row["b"], row["at"]) == (mean, 0.1, 1767323045.678901)


@pytest.mark.parametrize("name", WAYS)
def test_every_double_is_the_one_that_the_server_would_make(
    name: str, filled: Callable[[str], WayIn]
) -> None:
    way = filled(name)
    numbers = (
        "0.1",
        "123456789012345678901234567890.123456789",
        "1e-320",
        "1e308",
        "-0.5",
        "'NaN'",
        "'Infinity'",
    )
    values = ", ".join(f"({n}, CAST({number} AS NUMERIC))" for n, number in enumerate(numbers))
    query = f"SELECT x, CAST(x AS DOUBLE PRECISION) AS d FROM (VALUES {values}) v(n, x) ORDER BY n"
    with way.open(exact_columns=()) as database:
        rows = database.read(query, batch_rows=3).read_all()
    assert list(map(repr, rows["x"].to_pylist())) == list(map(repr, rows["d"].to_pylist()))
    assert math.isnan(rows["x"][5].as_py())


@pytest.mark.parametrize("name", WAYS)
def test_a_number_beyond_every_double_is_refused(name: str, filled: Callable[[str], WayIn]) -> None:
    query = "SELECT CAST('-1e400' AS NUMERIC) AS x"
    with filled(name).open(exact_columns=()) as database:
        rows = database.read(query, batch_rows=1)
        with pytest.raises(UnsupportedType, match="'x' of type numeric"):
            rows.read_all()


@pytest.mark.parametrize("condition", ["1 = 1", "a = 1", "1 = 0"])
@pytest.mark.parametrize("name", WAYS)
def test_a_key_is_refused_by_its_type_whatever_the_night_brings(
    name: str, condition: str, filled: Callable[[str], WayIn]
) -> None:
    query = f"SELECT any_number FROM n WHERE {condition}"
    with filled(name).open(exact_columns=("any_number",)) as database:
        for ask in (database.describe, functools.partial(database.read, batch_rows=1)):
            with pytest.raises(UnsupportedType) as error:
                ask(query)
            assert 'write CAST("any_number" AS TEXT) AS "any_number"' in str(error.value)
            assert "DOUBLE" not in str(error.value)
            database.rollback()
        cast = f'SELECT CAST("any_number" AS TEXT) AS "any_number" FROM ({query}) q'
        assert set(database.read(cast, batch_rows=9).read_all()["any_number"].to_pylist()) <= {"1.5", "0.1"}


@pytest.mark.parametrize("name", WAYS)
def test_a_declared_numeric_stays_a_decimal_for_a_model_too(
    name: str, filled: Callable[[str], WayIn]
) -> None:
    with filled(name).open(exact_columns=("id",)) as database:
        rows = database.read(
            "SELECT b, CAST(b AS NUMERIC(28, 6)) AS c FROM n LIMIT 1", batch_rows=1
        ).read_all()
    assert rows.to_pylist() == [{"b": Decimal("0.10"), "c": Decimal("0.100000")}]
    assert [str(kind) for kind in rows.schema.types] == ["decimal128(10, 2)", "decimal128(28, 6)"]


@pytest.mark.parametrize("name", TOO_MANY_DIGITS)
def test_more_digits_than_a_decimal_has_are_a_double_for_a_model(
    name: str, way_named: Callable[[str], WayIn]
) -> None:
    query = "SELECT CAST('123456789012345678901234567890.0123456789' AS DECIMAL(45, 10)) AS x"
    with way_named(name).open(exact_columns=()) as database:
        rows = database.read(query, batch_rows=1).read_all()
    assert rows.to_pylist() == [{"x": 123456789012345678901234567890.0123456789}]


def test_nan_in_a_declared_numeric_offers_a_double_to_a_model(filled: Callable[[str], WayIn]) -> None:
    query = "SELECT CAST('NaN' AS NUMERIC(10, 2)) AS x"
    with filled("postgres").open(exact_columns=()) as database:
        rows = database.read(query, batch_rows=1)
        with pytest.raises(UnsupportedType, match=r'write CAST\("x" AS DOUBLE PRECISION\) AS "x"'):
            rows.read_all()
