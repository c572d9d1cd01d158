"""Whether the tables in the database are those that this code was written for; one small query."""

from __future__ import annotations

import sqlalchemy as sa

from mlops_plugin.errors import EventStoreError
from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.tables import SCHEMA_VERSION, VERSION_TABLE

_READ_VERSION = sa.text(f"SELECT version_num FROM {VERSION_TABLE}")


def schema_version(connection: sa.Connection) -> str | None:
    """The version of the tables, or None where there are none; leaves the transaction as it is."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.scalar(_READ_VERSION)
    return version


def check_schema(engine: sa.Engine, address: StoreAddress) -> None:
    """Raise `EventStoreError` unless the tables are there and of this code's version."""
    found = None
    if address.path is None or address.path.exists():
        with engine.connect() as connection:
            try:
                found = connection.scalar(_READ_VERSION)
            except (sa.exc.ProgrammingError, sa.exc.OperationalError):
                connection.rollback()
                if schema_version(connection) is not None:
                    raise
    if found is None:
        raise EventStoreError(f"event store ({address}): there are no tables; run: mlops db upgrade")
    if found < SCHEMA_VERSION:
        raise EventStoreError(
            f"event store ({address}): the tables have version {found}, "
            f"this code needs {SCHEMA_VERSION}; run: mlops db upgrade"
        )
    refuse_newer(found, address)


def refuse_newer(found: str | None, address: StoreAddress) -> None:
    """Raise `EventStoreError` where a newer version of this code has upgraded the tables."""
    if found is not None and found > SCHEMA_VERSION:
        raise EventStoreError(
            f"event store ({address}): the tables have version {found}, newer than this code, "
            f"which knows {SCHEMA_VERSION}; install the version of mlops-plugin that upgraded them"
        )
