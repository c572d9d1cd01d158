"""Airflow connections as the project reads them, and the secrets that must not leave them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from mlops_plugin.connections import ConnectionSpec, get_connection
from mlops_plugin.databases.drivers.odbc.connection_string import connection_string
from mlops_plugin.errors import ConnectionUnusable
from support.servers import PASSWORD, ServerDatabase


def test_connection_is_read_from_its_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    address = ServerDatabase("mysql", "db.example", 3307, "me", PASSWORD, "sales")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", address.airflow_uri("odbc"))
    spec = get_connection("shop")
    assert spec == ConnectionSpec(
        "shop", "odbc", "db.example", 3307, "me", PASSWORD, "sales", {"driver": "MariaDB Unicode"}
    )
    assert PASSWORD not in repr(spec)


def test_unknown_connection_says_how_to_define_one() -> None:
    with pytest.raises(ConnectionUnusable, match=r"'nope'.*AIRFLOW_CONN_NOPE"):
        get_connection("nope")


@pytest.mark.parametrize(
    "stored", ['{"conn_type": ', '{"conn_type": "odbc", "extra": "[1]"}', "mysql://u:s3cret@h:no/d"]
)
def test_malformed_connection_is_named_and_its_secret_is_not(
    stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BAD", stored)
    with pytest.raises(ConnectionUnusable, match="'bad'") as error:
        get_connection("bad")
    assert "s3cret" not in str(error.value)
    assert "s3cret" not in repr(error.value.__cause__)


def test_redact_finds_every_spelling_of_every_secret() -> None:
    extra = {
        "api_token": "t0ken",
        "nested": {"private_key": "k3y"},
        "connection_string": "DRIVER=x;PWD={br;ace};Password=pl4in",
        "driver": "MariaDB Unicode",
    }
    spec = ConnectionSpec("c", "odbc", password="p@ss w}rd'", extra=extra)
    secret = spec.password or ""
    for spelling in (
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        "p@ss w}}rd'",
        "p@ss w}rd''",
    ):
        assert spec.redact(f"<{spelling}>") == "<***>"
    assert spec.redact("t0ken k3y br;ace pl4in MariaDB Unicode") == "*** *** *** *** MariaDB Unicode"
    assert ConnectionSpec("c", "mysql").redact("nothing to hide") == "nothing to hide"


def test_odbc_connection_string_is_the_hooks_with_values_escaped() -> None:
    spec = ConnectionSpec(
        "c",
        "odbc",
        "h",
        1,
        "me",
        "a;b}c",
        "db",
        {"Driver": "{MariaDB Unicode}", "ssl": "1", "connect_kwargs": {}},
    )
    assert connection_string(spec) == (
        "DRIVER={MariaDB Unicode};SERVER=h;DATABASE=db;UID=me;PWD={a;b}}c};PORT=1;ssl=1;"
    )
    given = ConnectionSpec(
        "c", "odbc", password="p", extra={"connection_string": "DSN=shop;", "dialect": "mysql"}
    )
    assert connection_string(given) == "DSN=shop;PWD=p;"


def test_importing_connections_loads_nothing_heavy() -> None:
    script = "import json, sys, mlops_plugin.connections; print(json.dumps(sorted(sys.modules)))"
    plugins = str(Path(__file__).parents[2] / "plugins")
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": plugins},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"airflow", "pyarrow", "pandas", "sqlalchemy"} & set(json.loads(done.stdout))
