"""The files in a zip or tar archive, each checked before it is read; nothing is written to a disk."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from typing import IO, Any, NoReturn

from mlops_plugin.errors import ArtifactError
from mlops_plugin.formats.artifact import LARGEST_ARTIFACT
from mlops_plugin.formats.mlflow_models.paths import MOST_FILES, require_plain_path

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
# Models rarely become a tenth; what becomes a hundredth was made to fill a memory.
_MOST_TIMES, _ALWAYS_BYTES = 100, 64 << 20
_CHUNK = 1 << 20
_ENCRYPTED = 1  # a flag of an entry in a zip file


def is_archive(start: bytes) -> bool:
    """Whether a file begins as a zip, tar or tar.gz file does."""
    is_tar = start[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC)
    return start.startswith((_ZIP, _GZIP)) or is_tar


class Archive:
    """An archive in memory. Raises `ArtifactError` for whatever no archive of a model holds."""

    def __init__(self, uri: str, content: bytes) -> None:
        self._uri = uri
        self._content = content
        self._most = min(LARGEST_ARTIFACT, max(_ALWAYS_BYTES, _MOST_TIMES * len(content)))
        self.sizes = self._sizes()

    def read(self, path: str) -> bytes:
        """The bytes of a file that `sizes` lists."""
        try:
            return self._read_zip(path) if self._is_zip else self._read_tar(path)
        except (ArtifactError, MemoryError):
            raise
        except Exception as exc:  # what zipfile, tarfile and zlib say of a broken file
            raise self._broken(exc) from exc

    @property
    def _is_zip(self) -> bool:
        return self._content.startswith(_ZIP)

    def _sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        total = 0
        try:
            for path, size in self._zip_entries() if self._is_zip else self._tar_entries():
                require_plain_path(self._uri, path)
                if path in found:
                    self._refuse(f"has '{path}' twice")
                found[path] = size
                total += size
                if len(found) > MOST_FILES:
                    self._refuse(f"has more than {MOST_FILES} files")
                if total > self._most:
                    self._refuse_bomb()
        except (ArtifactError, MemoryError):
            raise
        except Exception as exc:
            raise self._broken(exc) from exc
        return found

    def _zip_entries(self) -> Iterator[tuple[str, int]]:
        with zipfile.ZipFile(io.BytesIO(self._content)) as archive:
            for entry in archive.infolist():
                if entry.is_dir():
                    continue
                if entry.flag_bits & _ENCRYPTED:
                    self._refuse("is encrypted")
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if kind not in (0, stat.S_IFREG):
                    self._refuse(f"has a link or a device, '{entry.filename}'")
                yield entry.orig_filename, entry.file_size

    def _read_zip(self, path: str) -> bytes:
        with zipfile.ZipFile(io.BytesIO(self._content)) as archive, archive.open(path) as file:
            return self._bounded(file, self.sizes[path])

    def _tar_entries(self) -> Iterator[tuple[str, int]]:
        stream = self._stream()
        with _tar(stream) as archive:
            for entry in archive:
                if entry.isdir():
                    continue
                if not entry.isreg() or entry.issparse():
                    self._refuse(f"has a link or a device, '{entry.name}'")
                yield entry.name.removeprefix("./"), entry.size
        while stream.read(_CHUNK):  # gzip has a checksum of the whole at its end
            pass

    def _read_tar(self, path: str) -> bytes:
        with _tar(self._stream()) as archive:
            for entry in archive:
                file = archive.extractfile(entry) if entry.name.removeprefix("./") == path else None
                if file is not None:
                    return self._bounded(file, self.sizes[path])
        raise KeyError(path)

    def _stream(self) -> _Bounded:
        raw: Any = io.BytesIO(self._content)
        if self._content.startswith(_GZIP):
            raw = gzip.GzipFile(fileobj=raw)
        return _Bounded(raw, self._most, self)

    def _bounded(self, file: IO[bytes], size: int) -> bytes:
        content = file.read(size + 1)
        if len(content) != size:
            self._refuse("is damaged: a file in it is longer or shorter than the archive says")
        return content

    def _refuse(self, found: str) -> NoReturn:
        raise ArtifactError(
            f"model archive '{self._uri}' {found}; write it again from the model's folder, e.g. with "
            "`tar -czf churn.tar.gz -C churn .`"
        )

    def _refuse_bomb(self) -> NoReturn:
        self._refuse(
            f"unpacks to more than {self._most} bytes, {_MOST_TIMES} times its size; at most "
            f"{LARGEST_ARTIFACT} are read"
        )

    def _broken(self, exc: Exception) -> ArtifactError:
        reason = str(exc).partition("\n")[0] or type(exc).__name__
        return ArtifactError(
            f"model archive '{self._uri}' cannot be read: {reason}; name a zip, tar or tar.gz file, and "
            "check that it is complete"
        )


class _Bounded:
    """A stream that refuses to become much longer than the archive that it comes from."""

    def __init__(self, stream: IO[bytes], most: int, archive: Archive) -> None:
        self._stream = stream
        self._left = most
        self._archive = archive

    def read(self, size: int) -> bytes:
        """The next bytes."""
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            self._archive._refuse_bomb()
        return content


def _tar(stream: _Bounded) -> tarfile.TarFile:
    """An archive that is read once, from its beginning."""
    return tarfile.open(fileobj=stream, mode="r|")  # type: ignore[call-overload, no-any-return]
