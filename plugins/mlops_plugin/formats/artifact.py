"""The bytes of a model file: where they are, and whether they are the pinned ones."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from mlops_plugin.errors import ArtifactChanged, ArtifactError, DriverMissing, MlopsError

# How joblib's compressed files begin: gzip, bz2, xz and lzma, zlib.
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"x\x9c")
_CHUNK = 1 << 20
LARGEST_ARTIFACT = 4 << 30  # bytes; it is held in memory while it is loaded

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig


def artifact_sha256(uri: str) -> str:
    """SHA-256 (64 hex digits) of the file at a path or fsspec URL, in constant memory.

    Raises `ArtifactError` if it cannot be read.
    """
    with open_artifact(uri) as file:
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        return digest.hexdigest()


def sha256_of(artifact: ArtifactConfig) -> str:
    """SHA-256 (64 hex digits) of a model as it is now: of its file or folder, or of its package's sources.

    Raises `ArtifactError` if it cannot be read.
    """
    if artifact.may_be_folder:
        from mlops_plugin.formats.mlflow_models.model_files import model_sha256

        return model_sha256(artifact.uri)
    if not artifact.is_code:
        return artifact_sha256(artifact.uri)
    from mlops_plugin.formats.custom.python_package import Place, package_sha256

    return package_sha256(Place.of(artifact.uri))


def copy_artifact(artifact: ArtifactConfig, path: Path) -> None:
    """Copy a model's file to a path, or its folder. Raises `ArtifactError` if it cannot be read."""
    if artifact.may_be_folder:
        from mlops_plugin.formats.mlflow_models.model_files import copy_model

        copy_model(artifact.uri, path)
        return
    with open_artifact(artifact.uri) as source, path.open("wb") as copy:
        shutil.copyfileobj(source, copy, _CHUNK)


def format_of(content: bytes) -> str:
    """The format that a file seems to be written in, by its first bytes; nothing of it is loaded."""
    if content.startswith(b"PK\x03\x04"):
        return "skops"
    if content.startswith((b"tree\n", b"tree\r\n")):
        return "lightgbm"
    if re.match(rb'\s*\{\s*"(learner|version)"|\{L....', content, re.DOTALL) and b"learner" in content:
        return "xgboost"
    if content.startswith(b"CBM1"):
        return "catboost"
    if re.match(rb"\x08[\x03-\x20][\x10-\x42]", content):  # protobuf: the version, and one of the next fields
        return "onnx"
    is_joblib = content.startswith(COMPRESSED) or b"joblib.numpy_pickle" in content
    return "joblib" if is_joblib else "pickle"


class Verified(NamedTuple):
    """A model file's bytes and their SHA-256 (64 hex digits), or that of the folder that it lies in.

    `trained`: what the folder says of each feature's type in training, see `mlflow_models.trained_types`.
    """

    content: bytes
    sha256: str
    trained: Mapping[str, str] | None = None


def read_verified(artifact: ArtifactConfig) -> Verified:
    """The file's content, read once: the bytes that are hashed are the bytes that the caller loads.

    Raises `ArtifactError` if it cannot be read, is empty, or is not the file that `sha256` pins.
    """
    with open_artifact(artifact.uri) as file:
        content = file.read()
    if not content:
        raise ArtifactError(f"model file '{artifact.uri}' is empty; save the model again")
    found = hashlib.sha256(content).hexdigest()
    require_pinned(artifact, found)
    return Verified(content, found)


def require_pinned(artifact: ArtifactConfig, found: str, what: str = "model file") -> None:
    """Raise `ArtifactChanged` if `sha256` pins other bytes than those with this hash."""
    if artifact.pins and found not in artifact.pins:
        raise ArtifactChanged(
            f"{what} '{artifact.uri}' is not the pinned one: its SHA-256 is {found}, `sha256:` pins "
            f"{', '.join(artifact.pins)}; restore it, or pin the new one if you know where it comes from"
        )


def refuse_no_model(uri: str, content: bytes) -> None:
    """Raise `ArtifactError` for what is deployed in the place of a model by mistake."""
    if content.startswith(b"version https://git-lfs.github.com/spec/"):
        raise ArtifactError(
            f"model file '{uri}' is a Git LFS pointer, not the model itself; fetch the file with "
            "`git lfs pull` where it is deployed from"
        )
    if content[:256].lstrip()[:1] == b"<":
        raise ArtifactError(
            f"model file '{uri}' is a page of HTML or XML, not a model: the download returned a "
            "login or error page; download the file again"
        )


@contextmanager
def open_artifact(uri: str) -> Iterator[IO[bytes]]:
    """The file at a path or fsspec URL, for reading. Raises `ArtifactError` if it cannot be read."""
    try:
        with _open_url(uri) if "://" in uri else open_regular(uri) as file:
            yield file
    except FileNotFoundError as exc:
        raise ArtifactError(
            f"model file '{uri}' does not exist; check `uri:` and that it is deployed here"
        ) from exc
    except IsADirectoryError as exc:
        raise ArtifactError(f"model file '{uri}' is a directory; `uri:` names the file inside it") from exc
    except PermissionError as exc:
        raise ArtifactError(f"model file '{uri}' cannot be read by this user; check its permissions") from exc
    except MlopsError:
        raise
    except Exception as exc:  # every storage has a library with errors of its own, botocore's for one
        raise ArtifactError(f"model file '{uri}' cannot be read: {exc}; check `uri:`") from exc


def open_regular(path: str) -> IO[bytes]:
    """A regular file of this machine: a pipe or a device would keep its reader waiting, or never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe opens at once
    if refusal := _refusal(path, os.fstat(descriptor)):
        os.close(descriptor)
        raise refusal
    return os.fdopen(descriptor, "rb")


def _refusal(path: str, status: os.stat_result) -> Exception | None:
    if stat.S_ISDIR(status.st_mode):
        return IsADirectoryError(path)
    if not stat.S_ISREG(status.st_mode):
        return ArtifactError(f"file '{path}' is a pipe, a socket or a device; name a regular file")
    if status.st_size > LARGEST_ARTIFACT:
        return ArtifactError(f"file '{path}' has {status.st_size} bytes; at most {LARGEST_ARTIFACT} are read")
    return None


def _open_url(uri: str) -> IO[bytes]:
    import fsspec  # not for local paths: it costs the `log` step 50 ms

    try:
        return cast("IO[bytes]", fsspec.open(uri, "rb").open())
    except ImportError as exc:  # fsspec names the package
        raise DriverMissing(f"model file '{uri}' is on storage that needs a library: {exc}") from exc
