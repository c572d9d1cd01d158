"""Airflow registers the plugin once, from the wheel or from its plugins folder, and names two copies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from release.build import CHECKOUT
from support.built_wheel import BuiltWheel

PLUGINS = CHECKOUT / "plugins"
# Airflow's own processes load plugins by the first, its tasks by the second; some processes by both.
_LOAD = """
import json, sys
import airflow.plugins_manager, airflow.sdk.plugins_manager
import mlops_plugin
from airflow.plugins_manager import get_plugin_info

def loaded(manager):
    plugins, errors = manager._get_plugins()
    ours = [plugin for plugin in plugins if plugin.name in ("mlops", "other")]
    return {"names": sorted(plugin.name for plugin in ours), "errors": errors}

print(json.dumps({
    "core": loaded(airflow.plugins_manager),
    "tasks": loaded(airflow.sdk.plugins_manager),
    "sources": {p["name"]: str(p["source"]) for p in get_plugin_info(["source"])},
    "place": mlops_plugin.__path__[0],
}))
"""


def load(home: Path, plugins_folder: Path, *path: Path) -> dict[str, Any]:
    """What Airflow registers, with another package's plugin behind ours on Python's path."""
    other = home / "other"
    (other / "other-1.dist-info").mkdir(parents=True)
    (other / "other-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (other / "other-1.dist-info" / "entry_points.txt").write_text("[airflow.plugins]\nother = other:Other\n")
    (other / "other.py").write_text(
        "from airflow.plugins_manager import AirflowPlugin\nclass Other(AirflowPlugin):\n    name = 'other'\n"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins_folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": os.pathsep.join(map(str, [*path, other])),
    }
    command = [sys.executable, "-c", _LOAD]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


BOTH = ["mlops", "other"]


def test_a_wheel_is_registered_once_wherever_else_it_is_installed(built: BuiltWheel, tmp_path: Path) -> None:
    again = tmp_path / "again"  # the package is found in two places, as an editable one is
    metadata = next(built.site.glob("*.dist-info"))
    shutil.copytree(metadata, again / metadata.name)
    found = load(tmp_path, tmp_path / "plugins", built.site, again)
    assert found["core"] == found["tasks"] == {"names": BOTH, "errors": {}}
    assert found["sources"]["mlops"].startswith("mlops-plugin==")
    assert Path(found["place"]) == built.site / "mlops_plugin"


def test_an_editable_installation_and_its_plugins_folder_are_one(built: BuiltWheel, tmp_path: Path) -> None:
    entry = tmp_path / "editable"
    metadata = next(built.site.glob("*.dist-info"))
    shutil.copytree(metadata, entry / metadata.name)
    found = load(tmp_path, PLUGINS, entry, PLUGINS)
    assert found["core"] == found["tasks"] == {"names": BOTH, "errors": {}}
    assert found["sources"]["mlops"] == "$PLUGINS_FOLDER/mlops_plugin_entry.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plugins folder as `docs/install.md` fills it."""
    return Path(shutil.copytree(PLUGINS, tmp_path / "plugins", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.mark.parametrize("first", ["the wheel", "the folder"])
def test_two_copies_are_registered_once_and_named(
    built: BuiltWheel, folder: Path, tmp_path: Path, first: str
) -> None:
    path = [built.site] if first == "the wheel" else [folder, built.site]
    found = load(tmp_path, folder, *path)
    running, idle = (built.site, folder) if first == "the wheel" else (folder, built.site)
    assert Path(found["place"]) == running / "mlops_plugin"
    for process in ("core", "tasks"):
        assert found[process]["names"] == BOTH
        (message,) = found[process]["errors"].values()
        runs, _, others = message.partition(" runs, not ")
        assert runs.endswith(str(running / "mlops_plugin"))
        assert str(idle / "mlops_plugin") in others
        assert "pip uninstall mlops-plugin" in others
