"""The Arrow files that hand a dispatch's rows from one step to the next.

A `Shelf` is one dispatch's folder. A step writes its rows under a name of its own try and then, last
in one operation, a small JSON note that names the file: a note means complete rows, whatever
was killed before, and two tries of the same step never mix.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from mlops_plugin.config.schema import StagingConfig
from mlops_plugin.errors import RowsLate, StagingError, StepEnded
from mlops_plugin.pipeline.staging.checksums import (
    BlockReader,
    Blocks,
    BlocksInTurn,
    BlockWriter,
    sealed,
    unsealed,
)
from mlops_plugin.pipeline.staging.relay import GrowingBlocks, Relay
from mlops_plugin.private_files import make_private_folder, restrict_file

# Called with the number of rows that were added to a shelf; shows progress.
OnRows = Callable[[int], None]
# Called with a file whose first rows are about to be written; its blocks can be followed.
OnBegun = Callable[["Staged"], None]

_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss"})


def unheard(rows: int) -> None:
    """Show no progress."""


def unchecked() -> None:
    """Any process may write notes."""


@dataclass(frozen=True)
class Staging:
    """The place of all dispatches' shelves: a folder, or any URL that fsspec opens."""

    url: str
    keep: timedelta

    @classmethod
    def of(cls, config: StagingConfig, airflow_home: Path) -> Staging:
        """Resolve the configured place; a relative folder is below `airflow_home`."""
        is_url = "://" in config.url
        return cls(config.url if is_url else str(airflow_home / config.url), config.keep)

    @property
    def is_local(self) -> bool:
        """Whether a file can be read while it is written."""
        return "://" not in self.url or self.url.startswith(("file://", "local://"))

    def shelf(self, model: str, dispatch_id: str, on_rows: OnRows = unheard) -> Shelf:
        """The shelf of one dispatch; nothing is created before something is put on it."""
        return Shelf(f"{self.url.rstrip('/')}/{model}/{dispatch_id}", on_rows)

    def sweep(self, now: datetime, in_use: Callable[[Sequence[str]], Collection[str]]) -> int:
        """Remove shelves, of any model, that nothing touched for `keep`; returns how many.

        `now` is the event store's time, and `in_use` tells which of some dispatches still need their shelf:
        a worker whose clock is wrong dates its files wrongly, and must not sweep those of others.
        """
        with _as_staging_error("sweeping", self.url):
            filesystem, root = fsspec.core.url_to_fs(self.url)
            last_change: dict[str, float] = {}
            for path, info in filesystem.find(root, detail=True).items():
                model, _, rest = path.removeprefix(root).strip("/").partition("/")
                dispatch_id = rest.partition("/")[0]
                if _is_uuid(dispatch_id):  # the folder may hold other people's files too
                    shelf = f"{root.rstrip('/')}/{model}/{dispatch_id}"
                    last_change[shelf] = max(last_change.get(shelf, 0.0), _changed_at(info))
            oldest = now.timestamp() - self.keep.total_seconds()
            old = {shelf: shelf.rpartition("/")[2] for shelf, at in last_change.items() if at < oldest}
            kept = in_use(sorted({*old.values()})) if old else ()
            expired = [shelf for shelf, dispatch_id in old.items() if dispatch_id not in kept]
            for shelf in expired:
                with contextlib.suppress(FileNotFoundError):  # another dispatch sweeps too
                    filesystem.rm(shelf, recursive=True)
            return len(expired)


@dataclass(frozen=True)
class Staged:
    """A file of rows on a shelf, as a note has it, or one that is still being written."""

    name: str
    blocks: Blocks | None  # None: kept in memory, or written before files had checksums
    growing: GrowingBlocks | None = None  # those of a file that is still being written


@dataclass(frozen=True)
class Shelf:
    """One dispatch's folder: at most one note and one file of rows for each step, or for each partition.

    `before_note` is called before each note is written: it raises if this process may no longer write one.
    `relay` is there if other steps of the dispatch run at the same time, in this process.
    """

    url: str
    on_rows: OnRows = unheard
    partition: int | None = None
    before_note: Callable[[], None] = unchecked
    relay: Relay | None = None

    def of_partition(self, number: int) -> Self:
        """The place on this shelf of one partition: no other partition's notes are seen there."""
        return replace(self, partition=number)

    @property
    def whole(self) -> Self:
        """The shelf of the dispatch as a whole."""
        return replace(self, partition=None)

    def _named(self, name: str) -> str:
        return name if self.partition is None else f"{name}.{self.partition}"

    @property
    def unheard(self) -> Self:
        """The same shelf, without progress."""
        return replace(self, on_rows=unheard)

    def put(
        self,
        name: str,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
        on_begun: OnBegun | None = None,
    ) -> tuple[Staged, int]:
        """Write rows as an Arrow IPC stream; returns the file and its row count.

        The file counts only once `put_note` has named it. On any error nothing of it is left. `on_begun`
        gets the file at once, to follow it while it grows (on a local disk only).
        """
        file_name = f"{self._named(name)}-{uuid.uuid4().hex[:12]}.arrow"
        filesystem, root = self._open()
        path = f"{root}/{file_name}"
        rows = 0
        growing = None if self.relay is None or on_begun is None else GrowingBlocks(self.relay)
        with _as_staging_error("writing", path):
            _make_folder(filesystem, root)
            sink = filesystem.open(path, "wb")
            _restrict_to_owner(filesystem, path)
        try:
            checked = BlockWriter(sink, growing)
            if growing is not None and on_begun is not None:
                on_begun(Staged(file_name, None, growing))
            with _as_staging_error("writing", path):
                writer = pa.ipc.new_stream(checked, schema)
            for batch in batches:  # an error of the source passes unchanged
                with _as_staging_error("writing", path):
                    writer.write_batch(batch)
                    checked.end_block()
                rows += batch.num_rows
                self.on_rows(batch.num_rows)
            with _as_staging_error("writing", path):
                writer.close()
                checked.end_block()
                sink.close()
            if growing is not None:
                growing.end()
        except BaseException:
            if growing is not None:
                growing.give_up()
            for undo in (sink.close, lambda: filesystem.rm(path)):
                with contextlib.suppress(Exception):  # the first error is the one to report
                    undo()
            raise
        return Staged(file_name, checked.blocks), rows

    @contextlib.contextmanager
    def rows(self, file: Staged) -> Iterator[pa.RecordBatchReader]:
        """Stream the rows of a file that a note named, one batch in memory at a time.

        Raises `StagingError`, here or while reading, in place of a batch that is not as it was written, and
        `StepEnded` if the step that writes it now has failed.
        """
        filesystem, root = self._open()
        path = f"{root}/{file.name}"
        with _as_staging_error("reading", path):
            # Not memory-mapped: pages of the map would count as this process's memory, the whole file's in
            # the end, and reading costs 0.1 s per GB more.
            is_local = isinstance(filesystem, LocalFileSystem)
            try:
                source = pa.OSFile(path) if is_local else pa.PythonFile(filesystem.open(path, "rb"), mode="r")
            except FileNotFoundError:
                if file.growing is not None:
                    file.growing.require_kept()
                raise
        with source:
            with _as_staging_error("reading", path):
                blocks = file.blocks if file.growing is None else file.growing
                schema, batches = _opened(source, blocks, path)
            yield pa.RecordBatchReader.from_batches(schema, _batches(batches, path))

    def put_note(self, name: str, note: Mapping[str, Any]) -> None:
        """Write a step's note, replacing an earlier try's at once."""
        self.before_note()
        filesystem, root = self._open()
        path = f"{root}/{self._named(name)}.json"
        with _as_staging_error("writing", path):
            _make_folder(filesystem, root)
            # On a local disk a rename is what happens at once; an object store shows an object when complete.
            is_local = isinstance(filesystem, LocalFileSystem)
            written = f"{path}.{uuid.uuid4().hex[:12]}" if is_local else path
            with filesystem.open(written, "w", encoding="utf-8") as file:
                _restrict_to_owner(filesystem, written)
                json.dump(sealed(note), file, ensure_ascii=False, indent=1)
            if is_local:
                Path(written).replace(path)

    def note(self, name: str) -> dict[str, Any]:
        """Read a step's note; raises `StagingError` if there is none."""
        found = self.find_note(name)
        if found is None:
            raise _nothing_at(f"{self.url}/{self._named(name)}.json")
        return found

    def find_note(self, name: str) -> dict[str, Any] | None:
        """Read a step's note; None if there is none."""
        filesystem, root = self._open()
        path = f"{root}/{self._named(name)}.json"
        with _as_staging_error("reading", path):
            try:
                with filesystem.open(path, "rb") as file:
                    content: bytes = file.read()
            except FileNotFoundError:
                return None
        return unsealed(content, path)

    def has_rows(self, file: Staged) -> bool:
        """Whether a file of rows is still there."""
        filesystem, root = self._open()
        with _as_staging_error("looking for", f"{root}/{file.name}"):
            return bool(filesystem.exists(f"{root}/{file.name}"))

    def remove_rows(self) -> None:
        """Remove the rows of all steps; their notes, a few kilobytes, stay until they are swept by age."""
        filesystem, root = self._open()
        with _as_staging_error("removing the rows of", root):
            for path in filesystem.glob(f"{root}/*.arrow"):
                filesystem.rm(path)

    def _open(self) -> tuple[Any, str]:
        with _as_staging_error("opening", self.url):
            filesystem, root = fsspec.core.url_to_fs(self.url)
        return filesystem, str(root)


def _make_folder(filesystem: Any, path: str) -> None:
    """Object stores have no folders: asked for one, they may make a bucket of a misspelt name.

    On a local disk, those of the model and of the dispatch are private, and what did not exist.
    """
    if isinstance(filesystem, LocalFileSystem):
        make_private_folder(Path(path), below=Path(path).parent.parent)
        return
    protocols = {filesystem.protocol} if isinstance(filesystem.protocol, str) else {*filesystem.protocol}
    if not protocols & _OBJECT_STORES:
        filesystem.makedirs(path, exist_ok=True)


def _restrict_to_owner(filesystem: Any, path: str) -> None:
    """Before anything is written to it."""
    if isinstance(filesystem, LocalFileSystem):
        restrict_file(Path(path))


def _opened(
    source: Any, blocks: BlocksInTurn | None, path: str
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    if blocks is None:  # Arrow's other format, with an index at its end
        file = pa.ipc.open_file(source)
        return file.schema, map(file.get_batch, range(file.num_record_batches))
    stream = pa.ipc.open_stream(BlockReader(source.read_buffer, blocks, path))
    return stream.schema, iter(stream)


def _batches(batches: Iterator[pa.RecordBatch], path: str) -> Iterator[pa.RecordBatch]:
    while True:
        with _as_staging_error("reading", path):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _changed_at(info: Mapping[str, Any]) -> float:
    """Seconds since 1970; each kind of storage has a name of its own for it."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return time.time()  # of unknown age: not old


@contextlib.contextmanager
def _as_staging_error(doing: str, path: str) -> Iterator[None]:
    try:
        yield
    except (StagingError, StepEnded, RowsLate):  # in our words already
        raise
    except Exception as error:  # each storage library has its own errors, e.g. botocore's
        if doing == "reading" and isinstance(error, FileNotFoundError):
            raise _nothing_at(path) from error
        raise StagingError(
            f"staging: {doing} {path} failed: {error}; check staging.url in the configuration, the "
            "space left there, and that every worker reaches it"
        ) from error


def _nothing_at(path: str) -> StagingError:
    return StagingError(
        f"staging: {path} does not exist: the step before has not run, the dispatch has ended and its "
        "rows were removed, or this worker does not share the folder; clear 'collect' and the tasks after "
        "it in Airflow to dispatch again, and see staging.url if workers are on several machines"
    )
