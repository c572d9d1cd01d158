"""The tables of an event store, made once in each test process and copied for the other tests."""

from __future__ import annotations

from mlops_plugin.events.address import StoreAddress
from mlops_plugin.events.migrating import upgrade
from mlops_plugin.private_files import make_private_file, make_private_folder

_upgraded: list[bytes] = []  # the SQLite file as the first upgrade left it


def make_tables(address: StoreAddress) -> None:
    """Like `upgrade`, for tests of something else: a new SQLite file costs a copy and not ten migrations."""
    path = address.path
    if path is None or path.exists() or not _upgraded:
        is_new = path is not None and not path.exists()
        upgrade(address)
        if is_new and path is not None:
            assert not path.with_name(f"{path.name}-wal").exists()  # else the file is not all of it
            _upgraded.append(path.read_bytes())
        return
    make_private_folder(path.parent, below=path.parent)
    make_private_file(path)
    path.write_bytes(_upgraded[0])
