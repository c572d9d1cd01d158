"""A model of an MLflow registry as files on this machine: find its version, download it, hand out its "
"folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_plugin.connections import ConnectionSpec, airflow_home, get_connection
from mlops_plugin.errors import RegistryError
from mlops_plugin.formats.mlflow_models.model_files import DESCRIPTION
from mlops_plugin.formats.registry.downloads import download
from mlops_plugin.formats.registry.model_cache import ModelCache
from mlops_plugin.formats.registry.model_version import ModelUri, ModelVersion
from mlops_plugin.formats.registry.rest_api import MlflowServer
from mlops_plugin.wait_limits import RegistryLimits

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig

_READY = "READY"


@dataclass(frozen=True)
class Registry:
    """The registries that artifacts name by their connections."""

    home: Path = field(default_factory=airflow_home)
    connect: Callable[[str], ConnectionSpec] = get_connection
    limits: RegistryLimits = field(default_factory=RegistryLimits)

    def find(self, artifact: ArtifactConfig) -> ModelVersion:
        """The version that the artifact's `uri` stands for now. Raises `RegistryError`."""
        wanted = ModelUri.of(artifact.uri)
        with contextlib.closing(self._server(artifact)) as server:
            return self._find(artifact, wanted, server)

    def _find(self, artifact: ArtifactConfig, wanted: ModelUri, server: MlflowServer) -> ModelVersion:
        if wanted.alias is not None:
            found = server.version_of_alias(wanted.name, wanted.alias)
        else:
            found = server.version(wanted.name, wanted.version or "")
        if found.name != wanted.name or wanted.version not in (None, found.version):
            raise RegistryError(
                f"'{artifact.uri}': the server {server.url} answered with {found.name} version "
                f"{found.version}; "
                "check the connection's host"
            )
        if found.status != _READY:
            raise RegistryError(
                f"'{artifact.uri}': version {found.version} is {found.status} {found.status_message}".rstrip()
                + "; register it again"
            )
        source = server.source(found.name, found.version)
        return ModelVersion(
            artifact.uri, found.name, found.version, wanted.alias, found.run_id or None, source
        )

    def located(self, artifact: ArtifactConfig, version: ModelVersion) -> ArtifactConfig:
        """The artifact as a folder of this machine that holds this version, downloaded if need be."""
        server = self._server(artifact)

        def fill(folder: Path) -> None:
            with contextlib.closing(server):
                download(server, version, folder)
            if not (folder / DESCRIPTION).is_file():
                raise RegistryError(
                    f"'{version.fixed_uri}' has no file {DESCRIPTION} in {version.source}; log and "
                    "register the "
                    "model again"
                )

        path = ModelCache.of(self.home).path(server.url, version, fill)
        return artifact.model_copy(update={"uri": str(path), "connection": None})

    def _server(self, artifact: ArtifactConfig) -> MlflowServer:
        if artifact.connection is None:  # the schema has refused that
            raise RegistryError(f"'{artifact.uri}': `connection:` is missing")
        return MlflowServer(self.connect(artifact.connection), self.limits)
