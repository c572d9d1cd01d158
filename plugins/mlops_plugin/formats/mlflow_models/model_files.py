"""The files of an MLflow model, in a folder, in an archive or at an fsspec URL: their hash and their bytes.

The hash of a folder is that of the lines for all of its files, sorted by path, as `sha256sum` prints them in
the folder; that of an archive is the archive's own. Nothing is loaded here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Protocol, cast

from mlops_plugin.errors import ArtifactError
from mlops_plugin.formats.artifact import LARGEST_ARTIFACT, open_artifact, open_regular
from mlops_plugin.formats.mlflow_models.archives import Archive, is_archive
from mlops_plugin.formats.mlflow_models.paths import MOST_FILES, require_plain_path

DESCRIPTION = "MLmodel"
# MLflow's client adds it to what it downloads from a registry; the same model has the same hash without.
_NOT_HASHED = "registered_model_meta"
_LARGEST_DESCRIPTION = 1 << 20  # bytes
_MOST_LEVELS = 50  # of folders
_CHUNK = 1 << 20
_MAGIC_BYTES = 512  # tar's first header


class ModelFiles(Protocol):
    """A model's files by their paths below its folder."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file."""

    def read(self, path: str) -> bytes:
        """All of a file that `sizes` lists."""

    def sha256(self, known: Mapping[str, bytes]) -> str:
        """64 hex digits; `known` are files that were read already: those bytes count."""


def open_files(uri: str) -> ModelFiles:
    """The files of a model; raises `ArtifactError` if there is none, or links or too much are in its
    place."""
    if "://" in uri:
        return _open_url(uri)
    if Path(uri).is_dir():
        return LocalFolder(uri)
    return _open_archive(uri)


def is_mlflow_model(path: str) -> bool:
    """Whether a folder of this machine, or an archive, has MLflow's description of a model."""
    if Path(path).is_dir():
        return Path(path, DESCRIPTION).is_file()
    try:
        with open_regular(path) as file:
            if not is_archive(file.read(_MAGIC_BYTES)):
                return False
        return DESCRIPTION in open_files(path).sizes
    except (OSError, ArtifactError):
        return False  # whoever reads it as something else says what is wrong


def model_sha256(uri: str) -> str:
    """SHA-256 (64 hex digits) of a model as it is now."""
    return open_files(uri).sha256({})


def copy_model(uri: str, target: Path) -> None:
    """Copy an archive to a path, or the files of a folder into a new one there."""
    files = open_files(uri)
    if isinstance(files, PackedFolder):
        target.write_bytes(files.content)
        return
    for path in files.sizes:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(files.read(path))


def read_description(uri: str, files: ModelFiles) -> bytes:
    """The bytes of `MLmodel`; raises `ArtifactError` if there is none, or it is none of MLflow's."""
    size = files.sizes.get(DESCRIPTION)
    if size is None:
        raise ArtifactError(
            f"model '{uri}' has no file {DESCRIPTION}, so MLflow has not logged it; name the folder that "
            "has it"
        )
    if size > _LARGEST_DESCRIPTION:
        raise ArtifactError(
            f"model '{uri}': its {DESCRIPTION} has {size} bytes, and at most {_LARGEST_DESCRIPTION} are read"
        )
    return files.read(DESCRIPTION)


class _Folder:
    """A folder whose files are listed once and read one by one."""

    def __init__(self, uri: str, sizes: Mapping[str, int]) -> None:
        self.uri = uri
        self.sizes = sizes
        for path in sizes:
            require_plain_path(uri, path)
        if len(sizes) > MOST_FILES or sum(sizes.values()) > LARGEST_ARTIFACT:
            raise _too_large(uri)

    def _open(self, path: str) -> AbstractContextManager[IO[bytes]]:
        raise NotImplementedError

    def read(self, path: str) -> bytes:
        size = self.sizes[path]
        with self._open(path) as file:
            content = file.read(size + 1)
        if len(content) != size:
            raise ArtifactError(f"model '{self.uri}': its file '{path}' changed while it was read; try again")
        return content

    def sha256(self, known: Mapping[str, bytes]) -> str:
        lines = []
        for path in sorted(self.sizes, key=str.encode):
            if path == _NOT_HASHED:
                continue
            digest = hashlib.sha256(known.get(path, b""))
            if path not in known:
                with self._open(path) as file:
                    while chunk := file.read(_CHUNK):
                        digest.update(chunk)
            lines.append(f"{digest.hexdigest()}  ./{path}\n".encode())
        return hashlib.sha256(b"".join(lines)).hexdigest()


class LocalFolder(_Folder):
    """A folder of this machine; links in it are refused."""

    def __init__(self, uri: str) -> None:
        self._left = MOST_FILES
        super().__init__(uri, dict(self._walk(uri, "")))

    def _walk(self, uri: str, below: str) -> Iterator[tuple[str, int]]:
        try:
            entries = list(os.scandir(Path(uri, below)))
        except OSError as exc:
            raise ArtifactError(
                f"model '{uri}' cannot be read: {exc.strerror}; check its permissions"
            ) from exc
        if self._left < len(entries):  # counted while it is walked: it may be the root of a disk
            raise _too_large(uri)
        self._left -= len(entries)
        for entry in entries:
            path = f"{below}{entry.name}"
            if entry.is_symlink():
                raise ArtifactError(
                    f"model '{uri}' has a link in its folder, '{path}'; put a copy of the file in its place"
                )
            if entry.is_dir() and path.count("/") >= _MOST_LEVELS:
                raise ArtifactError(
                    f"model '{uri}' has folders in more than {_MOST_LEVELS} levels; name the folder of one "
                    "model"
                )
            if entry.is_dir():
                yield from self._walk(uri, f"{path}/")
            else:
                yield path, entry.stat(follow_symlinks=False).st_size

    def _open(self, path: str) -> IO[bytes]:
        try:
            return open_regular(str(Path(self.uri, path)))
        except OSError as exc:
            raise ArtifactError(
                f"model '{self.uri}': its file '{path}' cannot be read: {exc.strerror}; check its permissions"
            ) from exc


class RemoteFolder(_Folder):
    """A folder at an fsspec URL."""

    def __init__(self, uri: str, filesystem: Any, root: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        found = filesystem.find(root, detail=True)
        super().__init__(
            uri,
            {
                path.removeprefix(self._root).lstrip("/"): int(about.get("size") or 0)
                for path, about in found.items()
            },
        )

    def _open(self, path: str) -> IO[bytes]:
        return cast("IO[bytes]", self._filesystem.open(f"{self._root}/{path}", "rb"))


class PackedFolder:
    """A folder in an archive; what lies in a folder of its own there counts as the model's folder."""

    def __init__(self, uri: str, content: bytes) -> None:
        self.content = content
        self._sha256 = hashlib.sha256(content).hexdigest()
        self._archive = Archive(uri, content)
        tops = {path.partition("/")[0] for path in self._archive.sizes}
        top = next(iter(tops)) if len(tops) == 1 else ""
        self._prefix = f"{top}/" if f"{top}/{DESCRIPTION}" in self._archive.sizes else ""
        self.sizes = {path.removeprefix(self._prefix): size for path, size in self._archive.sizes.items()}

    def read(self, path: str) -> bytes:
        return self._archive.read(self._prefix + path)

    def sha256(self, known: Mapping[str, bytes]) -> str:  # noqa: ARG002 - they come from the same bytes
        return self._sha256


def _too_large(uri: str) -> ArtifactError:
    return ArtifactError(
        f"model '{uri}' has more than {MOST_FILES} files or {LARGEST_ARTIFACT} bytes; name the folder of "
        "one model"
    )


def _open_archive(uri: str) -> PackedFolder:
    with open_artifact(uri) as file:
        content = file.read()
    if not is_archive(content):
        raise ArtifactError(
            f"model '{uri}' is neither a folder nor a zip, tar or tar.gz file; name the folder that has "
            f"MLflow's file {DESCRIPTION}"
        )
    return PackedFolder(uri, content)


def _open_url(uri: str) -> ModelFiles:
    import fsspec

    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
        is_folder = filesystem.isdir(root)
        if is_folder:
            return RemoteFolder(uri, filesystem, root)
    except ArtifactError:
        raise
    except Exception as exc:  # every storage has a library with errors of its own
        raise ArtifactError(f"model '{uri}' cannot be read: {exc}; check `uri:`") from exc
    return _open_archive(uri)
