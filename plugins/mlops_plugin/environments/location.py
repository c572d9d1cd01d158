"""Where a model's environment is, by what it is made of, and what it says of itself once it is built."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_plugin.connections import airflow_home
from mlops_plugin.environments.requirements import Requirements
from mlops_plugin.errors import EnvironmentUnusable

if TYPE_CHECKING:
    from mlops_plugin.config.schema import EnvironmentConfig, ModelConfig

FOLDER = Path("mlops", "environments")  # relative to AIRFLOW_HOME
DESCRIPTION = "environment.json"
# Of how we build; another number builds every environment again.
_LAYOUT = 1


@dataclass(frozen=True)
class Environment:
    """The environment of some models; `key` is the hash of its Python and its requirements."""

    model: str
    python_version: str
    requirements: Requirements
    folder: Path  # of all environments

    @classmethod
    def of(cls, model: ModelConfig) -> Environment | None:
        """The environment that a model's configuration describes; None if it uses Airflow's.

        Raises `EnvironmentUnusable` if its requirements file cannot be used.
        """
        config: EnvironmentConfig | None = model.model.environment
        if config is None:
            return None
        folder = airflow_home() / FOLDER
        return cls(model.name, config.python, Requirements.read(config.requirements), folder)

    @property
    def key(self) -> str:
        parts = (str(_LAYOUT), self.python_version, platform.system(), platform.machine())
        digest = hashlib.sha256("\n".join(parts).encode())
        digest.update(self.requirements.content)
        return digest.hexdigest()[:32]

    @property
    def path(self) -> Path:
        return self.folder / self.key

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def lock(self) -> Path:
        """Held alone by who builds or removes it, together by who uses it."""
        return self.folder / f".{self.key}.lock"

    @property
    def is_built(self) -> bool:
        return (self.path / DESCRIPTION).is_file()

    @property
    def is_whole(self) -> bool:
        """Whether it was built, and the Python that it was built with is still there."""
        return self.is_built and self.python.exists()

    @property
    def described(self) -> Described:
        """What it is; raises `EnvironmentUnusable` if it is not there."""
        try:
            return Described(**json.loads((self.path / DESCRIPTION).read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise self._missing() from error
        except (OSError, ValueError, TypeError) as error:
            raise EnvironmentUnusable(
                f"models.{self.model}.model.environment: {self.path} cannot be read: {error}; remove that "
                f"folder, and build it again with: mlops environments sync {self.model}"
            ) from error

    @contextlib.contextmanager
    def used(self) -> Iterator[Described]:
        """While inside, nobody removes it. Raises `EnvironmentUnusable` if it is not there."""
        try:
            held = os.open(self.lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise self._missing() from error
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise EnvironmentUnusable(
                    f"models.{self.model}.model.environment: it is being built or removed just now "
                    f"({self.path}); try again when `mlops environments sync` is done"
                ) from error
            described = self.described
            if not self.python.exists():
                raise EnvironmentUnusable(
                    f"models.{self.model}.model.environment: the Python {self.python_version} that "
                    f"{self.path} was built with is not on this machine; install it where it was "
                    f"({described.base}), or remove that folder and run: mlops environments sync {self.model}"
                )
            yield described
        finally:
            os.close(held)

    def _missing(self) -> EnvironmentUnusable:
        return EnvironmentUnusable(
            f"models.{self.model}.model.environment: no environment was built for "
            f"{self.requirements.path} as it is now, with Python {self.python_version} ({self.path}); on "
            f"each machine that has a folder of its own, run: mlops environments sync {self.model}"
        )


@dataclass(frozen=True)
class Described:
    """An environment as it was built: its Python's version and place, and its packages with their versions.

    `requirements` is the file that it was built of.
    """

    python: str
    base: str
    requirements: str
    packages: Mapping[str, str] = field(default_factory=dict)


def environment_key(model: ModelConfig) -> str | None:
    """What changes when a model's environment does; None if it has none of its own."""
    environment = Environment.of(model)
    return None if environment is None else environment.key
