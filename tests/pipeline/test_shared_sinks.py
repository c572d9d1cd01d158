"""Two connections may lead to one database: their models then write the same table."""

from __future__ import annotations

import json

import pytest

from mlops_plugin.cli import main
from mlops_plugin.pipeline.shared_sinks import place_of
from support.workshop import Workshop

_ODBC = {"conn_type": "odbc", "extra": {"driver": "MariaDB Unicode"}}
_SAME = [
    ("mysql://ann@localhost/shop", "mysql://bob@127.0.0.1:3306/shop"),
    ("mysql://ann@localhost/shop", json.dumps({**_ODBC, "host": "LOCALHOST", "schema": "shop"})),
    (
        "mysql://db.example.com/shop",
        json.dumps(
            {
                "conn_type": "odbc",
                "extra": {"connection_string": "Driver=MariaDB;Server=db.example.com;DB=shop"},
            }
        ),
    ),
    ("postgres://ann@db:5432/shop", "postgres://db/shop"),
    ("sqlite:////data/shop.db", "sqlite:////data/../data/shop.db"),
]
_OTHERS = [
    ("mysql://localhost/shop", "mysql://localhost:3307/shop"),
    ("mysql://localhost/shop", "postgres://localhost/shop"),
    ("mysql://localhost/shop", "mysql://localhost/lab"),
    ("postgres://localhost/shop", "postgres://localhost/lab"),
    ("postgres://db/shop", "postgres://db2/shop"),
    ("sqlite:////data/shop.db", "sqlite:////data/lab.db"),
    (
        json.dumps({"conn_type": "odbc", "extra": {"dsn": "a"}}),
        json.dumps({"conn_type": "odbc", "extra": {"dsn": "b"}}),
    ),
    (
        json.dumps({"conn_type": "odbc", "extra": {"dsn": "a", "dialect": "sqlite"}}),
        json.dumps({"conn_type": "odbc", "extra": {"dsn": "b", "dialect": "sqlite"}}),
    ),
]


@pytest.mark.parametrize(
    ("one", "other", "is_same"), [(*pair, True) for pair in _SAME] + [(*pair, False) for pair in _OTHERS]
)
def test_connections_are_compared_by_where_they_lead(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, one: str, other: str, is_same: bool
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SINK", one)
    monkeypatch.setenv("AIRFLOW_CONN_AGAIN", other)
    workshop.add_model("second", sink={"connection": "again"})
    places = [place_of(workshop.model(name), workshop.home) for name in ("churn", "second")]
    assert (places[0] == places[1]) is is_same


def test_check_finds_models_that_write_one_table_over_two_connections(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AGAIN", workshop.connections["sink"])
    workshop.add_model("second", sink={"connection": "again", "table": "Churn_Predictions"})
    workshop.add_model("third", sink={"connection": "again", "table": "others"})
    assert main(["check", "--connect", "second"]) == 1
    printed = capsys.readouterr().out
    assert "WRONG models.second.sink.table" in printed
    assert "'Churn_Predictions' is also written by churn (connection 'sink')" in printed
    assert "models.churn" not in printed
