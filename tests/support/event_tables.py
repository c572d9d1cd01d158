"""The tables of an event store, made once in each test process and copied for the other tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.private_files import make_private_file, make_private_folder

_upgraded: list[bytes] = []  # the SQLite file as the first upgrade left it
_statements: dict[str, list[str]] = {}  # what the first upgrade on a server did there, by type of connection
_QUESTIONS = ("SELECT", "SHOW", "DESCRIBE")


def make_tables(address: StoreAddress) -> None:
    """Like `upgrade`, for tests of something else: new tables cost a copy and not ten migrations.

    On a server, the database must be a new one.
    """
    if address.path is None:
        _make_on_server(address)
        return
    if address.path.exists() or not _upgraded:
        is_new = not address.path.exists()
        upgrade(address)
        if is_new:
            beside = address.path.with_name(f"{address.path.name}-wal")
            assert not beside.exists()  # else the file is not all of it
            _upgraded.append(address.path.read_bytes())
        return
    make_private_folder(address.path.parent, below=address.path.parent)
    make_private_file(address.path)
    address.path.write_bytes(_upgraded[0])


def _make_on_server(address: StoreAddress) -> None:
    assert address.connection is not None
    kind = address.connection.conn_type
    if kind not in _statements:
        with _noted() as statements:
            upgrade(address)
        _statements[kind] = statements
        return
    engine = address.create_engine().execution_options(writes=True)
    with engine.begin() as connection:
        for statement in _statements[kind]:
            connection.exec_driver_sql(statement)
    engine.dispose()


@contextlib.contextmanager
def _noted() -> Iterator[list[str]]:
    """The statements that change something inside, in their order."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.lstrip().startswith(_QUESTIONS):
            assert not parameters, statement
            statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
