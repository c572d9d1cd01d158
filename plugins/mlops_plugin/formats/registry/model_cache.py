"""Files of registered versions on this machine: each downloaded whole, and then never changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlops_plugin.formats.mlflow_models.model_files import DESCRIPTION
from mlops_plugin.formats.registry.model_version import ModelVersion
from mlops_plugin.private_files import make_private_folder

FOLDER = Path("mlops", "models")  # relative to AIRFLOW_HOME
_DAY_S = 24 * 3600
_KEPT_S = 30 * _DAY_S  # since it was used last
_UNFINISHED = ".part-"


@dataclass(frozen=True)
class ModelCache:
    """A folder with one folder for each version of each server."""

    folder: Path

    @classmethod
    def of(cls, airflow_home: Path) -> ModelCache:
        return cls(airflow_home / FOLDER)

    def path(self, server: str, version: ModelVersion, download: Callable[[Path], None]) -> Path:
        """The folder of a version; `download` fills a new one if this machine has none."""
        found = self.folder / _name(server, version)
        if not (found / DESCRIPTION).is_file():
            self._fill(found, download)
            self._sweep()
        os.utime(found)
        return found

    def _fill(self, found: Path, download: Callable[[Path], None]) -> None:
        make_private_folder(self.folder, self.folder.parent)
        unfinished = self.folder / f"{_UNFINISHED}{uuid.uuid4().hex}"
        unfinished.mkdir(mode=0o700)
        try:
            download(unfinished)
            try:
                unfinished.rename(found)
            except OSError:
                if not (found / DESCRIPTION).is_file():  # another process may have been quicker
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what nobody has used for long, and what was never finished."""
        now = time.time()
        for entry in self.folder.iterdir():
            kept = _DAY_S if entry.name.startswith(_UNFINISHED) else _KEPT_S
            with contextlib.suppress(OSError):  # another process sweeps, too
                if now - entry.stat().st_mtime > kept:
                    shutil.rmtree(entry)


def _name(server: str, version: ModelVersion) -> str:
    """Of letters that every file system takes; servers and models of similar names get different ones."""
    facts = "\n".join((server, version.name, version.version, version.source, version.run_id or ""))
    digest = hashlib.sha256(facts.encode()).hexdigest()[:16]
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', version.name)[:60]}-{version.version}-{digest}"
