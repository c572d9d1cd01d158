"""Rows and events are for the user who runs Airflow, whatever the umask is, in older installations too."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from local_stack.layout import Layout
from mlops_plugin.events.migrating import upgrade
from support.workshop import Workshop


@pytest.fixture(params=[0o022, 0o000])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_to_others(folder: Path) -> dict[str, str]:
    """What others may reach below a folder, with its mode."""
    return {
        str(path.relative_to(folder)): oct(mode(path))
        for path in folder.rglob("*")
        if mode(path) != (0o700 if path.is_dir() else 0o600)
    }


@pytest.mark.usefixtures("umask")
def test_staged_rows_and_notes_are_private(workshop: Workshop) -> None:
    workshop.run_steps(workshop.dispatch(), "collect", "log", "infer")
    staging = workshop.home / "staging"
    assert mode(staging) == 0o700
    assert len(list(staging.rglob("*.arrow"))) == 2
    assert open_to_others(staging) == {}


@pytest.mark.usefixtures("umask")
def test_a_shelf_that_an_earlier_version_left_open_is_closed_when_it_is_used(workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect")
    shelf = next(workshop.home.rglob("collect.json")).parent
    others = shelf.parents[1] / "of-somebody-else"
    others.mkdir()
    kept = mode(others)
    for folder in (shelf, shelf.parent):
        folder.chmod(0o755)
    workshop.run_steps(dispatch, "log", "infer")
    assert (mode(shelf), mode(shelf.parent), mode(others)) == (0o700, 0o700, kept)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("was_there", [False, True])
def test_the_event_file_and_what_sqlite_keeps_beside_it_are_private(
    workshop: Workshop, tmp_path: Path, was_there: bool
) -> None:
    workshop.sections["events"] = {"path": str(tmp_path / "new" / "events.db")}
    workshop.write()
    file = tmp_path / "new" / "events.db"
    if was_there:
        file.parent.mkdir()
        file.touch()
        file.chmod(0o644)
    else:
        assert not file.parent.exists()
    with workshop.deployment.event_store() as store:
        upgrade(store.address)
        workshop.run(workshop.dispatch())
        with store.read("keeping the log open") as connection:
            connection.execute(sa.text("SELECT 1 FROM mlops_event"))
            beside = sorted(path.name for path in file.parent.iterdir())
            assert beside == ["events.db", "events.db-shm", "events.db-wal"]
            assert open_to_others(file.parent) == {}
    if not was_there:
        assert mode(file.parent) == 0o700


@pytest.mark.usefixtures("umask")
def test_the_folder_of_make_up_is_private_even_if_it_was_there(tmp_path: Path) -> None:
    local = tmp_path / ".local"
    local.mkdir(mode=0o755)
    Layout(tmp_path).create()
    assert mode(local) == 0o700
