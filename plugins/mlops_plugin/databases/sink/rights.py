"""Whether the connection's user may do what a dispatch does with a table: `mlops check --connect` asks."""

from __future__ import annotations

from collections.abc import Sequence

from mlops_plugin.config.schema import SinkConfig
from mlops_plugin.databases.database import Database
from mlops_plugin.databases.engines.engine import Right
from mlops_plugin.databases.sink.dispatches_table import DispatchesTable
from mlops_plugin.databases.sink.predictions_table import DISPATCH_ID, find_narrow, unique_keys
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import SinkError

_READ: tuple[Right, ...] = ("SELECT",)
_CREATE: tuple[Right, ...] = ("CREATE",)
_ALL: tuple[Right, ...] = ("SELECT", "INSERT", "UPDATE", "DELETE")
_NO_UPDATE: tuple[Right, ...] = ("SELECT", "INSERT", "DELETE")
_NO_DELETE: tuple[Right, ...] = ("SELECT", "INSERT", "UPDATE")


def require_rights(database: Database, sink: SinkConfig, key: Sequence[str], *, exists: bool) -> None:
    """Raise `SinkError` with what to grant for predictions. Changes nothing, and rolls back."""
    table, column = TableName.parse(sink.table), DISPATCH_ID
    if exists and (rows := find_narrow(database, sink)) is not None:
        _require(database, table, _READ)  # what is read back is read from the view
        table, column = rows.name, rows.owner
    rights = _of_predictions(database, sink, table, key) if exists else _CREATE
    if sink.mode == "upsert":
        rights = (*rights, "TEMPORARY")
    _require(database, table, rights, column)


def require_quarantine_rights(database: Database, sink: SinkConfig, *, exists: bool) -> None:
    """The same for rejected rows."""
    _require(database, TableName.parse(sink.table), _ALL if exists else _CREATE)


def require_order_rights(database: Database, sink: SinkConfig) -> None:
    """The same for the table of dispatches beside the sink."""
    dispatches = DispatchesTable(database, sink)
    _require(database, dispatches.table, _NO_UPDATE if dispatches.exists() else _CREATE)


def _of_predictions(
    database: Database, sink: SinkConfig, table: TableName, key: Sequence[str]
) -> tuple[Right, ...]:
    is_updated = sink.mode == "upsert" and (
        frozenset(map(database.engine.fold, key)) in unique_keys(database, table)
    )
    return _NO_DELETE if is_updated else _NO_UPDATE


def _require(
    database: Database, table: TableName, rights: Sequence[Right], column: str = DISPATCH_ID
) -> None:
    missing = database.engine.missing_rights(database, table, rights, column)
    if missing:
        grants = "".join(f"\n{grant};" for grant in missing)
        raise SinkError(
            f"connection '{database.conn_id}': its user lacks rights that a dispatch needs for table "
            f"{table}; let an administrator run:{grants}"
        )
