"""Downloads the files of a registered version: from the server's own artifacts, a folder, or object "
"storage."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlops_plugin.errors import RegistryError
from mlops_plugin.formats.artifact import LARGEST_ARTIFACT
from mlops_plugin.formats.mlflow_models.model_files import copy_model
from mlops_plugin.formats.mlflow_models.paths import MOST_FILES, is_plain_path
from mlops_plugin.formats.registry.model_version import ModelVersion
from mlops_plugin.formats.registry.rest_api import MlflowServer

_PROXIED = "mlflow-artifacts"
_DEEPEST = 20
_STORAGES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")  # which fsspec opens with the task's own rights


def download(server: MlflowServer, version: ModelVersion, folder: Path) -> None:
    """Fill an empty folder. Raises `RegistryError`, or `ArtifactError` for a storage that cannot be read."""
    source = urlsplit(version.source)
    if source.scheme == _PROXIED:
        _Proxied(server, version, folder).download(unquote(source.path).strip("/"))
    elif source.scheme == "file" and source.netloc in ("", "localhost"):
        copy_model(unquote(source.path), folder)
    elif (not source.scheme and version.source.startswith("/")) or source.scheme in _STORAGES:
        copy_model(version.source, folder)
    else:
        raise RegistryError(
            f"'{version.fixed_uri}' lies in {version.source}, which cannot be read from here; start MLflow "
            "with "
            "--serve-artifacts, or keep artifacts in S3, Google Cloud Storage, Azure, or a folder that "
            "workers "
            "share"
        )


class _Proxied:
    """Artifacts that the server hands out itself, folder by folder, within limits on number and bytes."""

    def __init__(self, server: MlflowServer, version: ModelVersion, folder: Path) -> None:
        self._server = server
        self._version = version
        self._folder = folder
        self._files = 0
        self._left = LARGEST_ARTIFACT

    def download(self, root: str) -> None:
        """All files below a path."""
        waiting = [""]
        while waiting:
            below = waiting.pop()
            for file in self._server.list_files(f"{root}/{below}".rstrip("/")):
                path = f"{below}{file.path}"
                if "/" in file.path or not is_plain_path(path):
                    raise self._refusal(f"has a file {file.path!r}, which is not plainly written")
                self._files += 1
                if self._files > MOST_FILES:
                    raise self._refusal(f"has more than {MOST_FILES} files")
                if path.count("/") > _DEEPEST:
                    raise self._refusal(f"has files in more than {_DEEPEST} folders, one in the other")
                if file.is_dir:
                    waiting.append(f"{path}/")
                else:
                    self._download(f"{root}/{path}", path, file.file_size)

    def _download(self, source: str, path: str, size: int | None) -> None:
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            received = self._server.download(source, file, self._left)
        if size is not None and received != size:
            raise self._refusal(f"has a file {path} of {size} bytes, but {received} were received; try again")
        self._left -= received

    def _refusal(self, found: str) -> RegistryError:
        return RegistryError(f"'{self._version.fixed_uri}' {found}")
