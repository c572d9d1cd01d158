"""`models:/NAME@ALIAS` and `models:/NAME/VERSION`, and the version that one stood for when it was asked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlops_plugin.errors import RegistryError

_URI = re.compile(r"models:/(?P<name>[^/@:]+)(?:@(?P<alias>[^/@:]+)|/(?P<version>[0-9]+))")


@dataclass(frozen=True)
class ModelUri:
    """What a URI names: a version, or the alias of one."""

    name: str
    alias: str | None
    version: str | None

    @classmethod
    def of(cls, uri: str) -> ModelUri:
        """Raises `RegistryError` if it has another form."""
        found = _URI.fullmatch(uri)
        if found is None:
            raise RegistryError(
                f"'{uri}' names no model version; write models:/NAME@ALIAS or models:/NAME/VERSION"
            )
        return cls(found["name"], found["alias"], found["version"])


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model; `uri` is what the configuration calls it, `source` where it lies."""

    uri: str
    name: str
    version: str
    alias: str | None
    run_id: str | None
    source: str

    @property
    def fixed_uri(self) -> str:
        """The URI of this very version."""
        return f"models:/{self.name}/{self.version}"
