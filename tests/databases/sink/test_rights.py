"""`mlops check --connect` names each right that a dispatch needs, and the GRANT that gives it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_plugin.databases.sink.rights import require_order_rights, require_quarantine_rights, require_rights
from mlops_plugin.databases.sink.write_request import Order, Registration, WriteRequest, Written
from mlops_plugin.databases.sink.writer import write_predictions
from mlops_plugin.databases.table_name import TableName
from mlops_plugin.errors import DatabaseError, SinkError
from support.sinks import AT, MODES, Mode, predictions, sink_config
from support.ways_in import WayIn, way_in

NEEDED: dict[Mode, set[str]] = {
    "append": {"SELECT", "INSERT", "DELETE"},
    "replace": {"SELECT", "INSERT", "DELETE"},
    "upsert": {"SELECT", "INSERT", "UPDATE", "TEMPORARY"},
}
USER, PASSWORD = "mlops_visitor", "x"


@pytest.fixture(params=("odbc-mariadb", "mysql", "odbc-postgres", "postgres"))
def admin(request: pytest.FixtureRequest, tmp_path: Path) -> WayIn:
    return way_in(request.param, request, tmp_path)


@pytest.fixture
def visitor(admin: WayIn) -> Iterator[WayIn]:
    """The same way for a user without any right but to connect."""
    database = admin.spec.schema
    if admin.engine == "mysql":
        user = f"'{USER}'@'%'"
        # A database-wide right that does nothing here lets the user choose the database.
        admin.execute(
            f"CREATE USER {user} IDENTIFIED BY '{PASSWORD}'", f"GRANT SHOW VIEW ON {database}.* TO {user}"
        )
        drop = [f"DROP USER {user}"]
    else:
        user = USER
        admin.execute(
            f"CREATE USER {user} PASSWORD '{PASSWORD}'",
            f'REVOKE TEMPORARY ON DATABASE "{database}" FROM PUBLIC',
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        )
        drop = [f"DROP OWNED BY {user}", f"DROP USER {user}"]
    yield replace(admin, spec=replace(admin.spec, login=USER, password=PASSWORD))
    admin.execute(*drop)


def grants_asked(
    visitor: WayIn, mode: Mode, *, exists: bool = True, is_quarantine: bool = False
) -> list[str]:
    """The statements in the refusal; none if there is no refusal."""
    with visitor.open() as database:
        try:
            if is_quarantine:
                require_quarantine_rights(database, sink_config(mode), exists=exists)
            else:
                require_rights(database, sink_config(mode), ["id"], exists=exists)
        except SinkError as error:
            return re.findall(r"^(GRANT .*);$", str(error), re.MULTILINE)
    return []


@pytest.mark.parametrize("mode", MODES)
def test_each_missing_right_is_named_and_the_grants_are_enough(
    admin: WayIn, visitor: WayIn, mode: Mode
) -> None:
    admin.write(predictions([1]), mode)
    # Without the right to see the table, MySQL does not say which keys are unique.
    admin.execute(f"GRANT SELECT ON predictions TO {USER}")
    missing = grants_asked(visitor, mode)
    named = {statement.split()[1].replace("CREATE", "TEMPORARY") for statement in missing}
    assert named == NEEDED[mode] - {"SELECT"}
    admin.execute(*missing)
    assert grants_asked(visitor, mode) == []
    visitor.write(predictions([2], dispatch="d2"), mode, dispatch="d2")
    assert 2 in [row[0] for row in admin.stored()]


@pytest.mark.parametrize("mode", MODES)
def test_the_right_to_create_is_tried_and_nothing_is_left(admin: WayIn, visitor: WayIn, mode: Mode) -> None:
    missing = grants_asked(visitor, mode, exists=False)
    assert any(statement.startswith("GRANT CREATE ON") for statement in missing)
    admin.execute(*missing)
    assert grants_asked(visitor, mode, exists=False) == []
    with admin.open() as database:
        assert database.columns(TableName.parse("predictions")) is None


def test_a_quarantine_is_also_updated(admin: WayIn, visitor: WayIn) -> None:
    admin.write(predictions([1]), "append")
    missing = grants_asked(visitor, "append", is_quarantine=True)
    assert {statement.split()[1] for statement in missing} == {"SELECT", "INSERT", "UPDATE", "DELETE"}


def test_the_table_of_dispatches_has_to_be_created_too(admin: WayIn, visitor: WayIn) -> None:
    if admin.engine == "mysql":  # which tells nobody without a right whether the table is there
        admin.execute(f"GRANT SELECT ON {admin.spec.schema}.* TO {USER}")
    with visitor.open() as database, pytest.raises(SinkError, match=r"mlops_dispatches(.|\n)*GRANT CREATE"):
        require_order_rights(database, sink_config("append"))
    with admin.open() as database:
        require_order_rights(database, sink_config("append"))


def _append_new(way: WayIn, number: int, ids: list[int], dispatch: str) -> Written:
    """As a dispatch of a model with `skip_predicted`."""
    request = WriteRequest(
        sink_config("append"),
        ("id",),
        dispatch,
        distinct_by_artifact="ab" * 32,
        registration=Registration(Order(number), "churn", "ab" * 32, AT, answered_by="settings"),
    )
    with way.open() as database:
        return write_predictions(database, request, predictions(ids, dispatch=dispatch).to_reader())


@pytest.mark.parametrize("admin", ["postgres"], indirect=True)
def test_a_column_that_may_not_be_read_ends_the_dispatch(admin: WayIn, visitor: WayIn) -> None:
    """One that was added later is in no GRANT on single columns: rows were called superseded, and lost."""
    assert _append_new(admin, 1, [1], "d1") == Written(1)
    known = "sink_table, dispatch_id, id, number, interval_end, model, artifact_sha256, predicted_at"
    admin.execute(
        f"GRANT SELECT, INSERT, DELETE ON predictions TO {USER}",
        f"GRANT INSERT, DELETE, SELECT ({known}) ON mlops_dispatches TO {USER}",
    )
    with pytest.raises(DatabaseError, match="permission denied"):
        _append_new(visitor, 2, [1, 2], "d2")
    admin.execute(f"GRANT SELECT (answered_by) ON mlops_dispatches TO {USER}")
    assert _append_new(visitor, 2, [1, 2], "d2") == Written(1, 1)
    assert sorted(row[0] for row in admin.stored()) == [1, 2]
