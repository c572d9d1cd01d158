"""The file of a connection that is one: the same for rows, events and the guard between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_plugin.config.schema import EventsConfig
from mlops_plugin.connections import ConnectionSpec, database_file
from mlops_plugin.databases.opening import open_database
from mlops_plugin.errors import ConnectionUnusable
from mlops_plugin.events.address import StoreAddress


def of(host: str | None = None, schema: str | None = None) -> ConnectionSpec:
    return ConnectionSpec("files", "sqlite", host=host, schema=schema)


@pytest.mark.parametrize(
    ("host", "schema", "path"),
    [
        ("/data/shop.db", None, "/data/shop.db"),
        (None, "/data/shop.db", "/data/shop.db"),  # sqlite:////data/shop.db
        (None, "data/shop.db", "home/data/shop.db"),  # sqlite:///data/shop.db
        ("shop.db", None, "home/shop.db"),  # sqlite://shop.db
        ("data", "shop.db", "home/data/shop.db"),  # sqlite://data/shop.db
    ],
)
def test_a_path_is_absolute_or_starts_from_airflows_home(
    host: str | None, schema: str | None, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    expected = tmp_path / path
    assert database_file(of(host, schema)) == expected
    assert database_file(of(host, schema), tmp_path / "home") == expected
    address = StoreAddress.of(EventsConfig(), of(host, schema), tmp_path / "home")
    assert address.path == expected
    assert address.is_file_of(of(host, schema), tmp_path / "home")


def test_a_file_that_is_only_in_the_working_folder_is_still_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, folder = tmp_path / "home", tmp_path / "folder"
    home.mkdir()
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW_HOME", str(home))
    monkeypatch.chdir(folder)
    assert database_file(of("shop.db")) == home / "shop.db"
    (folder / "shop.db").touch()
    assert database_file(of("shop.db")) == folder / "shop.db"
    (home / "shop.db").touch()
    assert database_file(of("shop.db")) == home / "shop.db"


def test_rows_are_written_into_airflows_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    with open_database(of("shop.db")) as database:
        database.execute("CREATE TABLE t (id INTEGER)")
        database.commit()
    assert (tmp_path / "shop.db").exists()


def test_memory_is_no_file_and_nothing_is_an_error() -> None:
    assert database_file(of(":memory:")) is None
    with pytest.raises(ConnectionUnusable, match="'files' names no file"):
        database_file(of())
    with pytest.raises(ConnectionUnusable, match=r"'files'.*memory"):
        StoreAddress.of(EventsConfig(), of(":memory:"), Path())
