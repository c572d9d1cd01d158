"""The wheel has all that the package reads, runs without the checkout, and asks for what the lock has."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlops_plugin.formats.native.libraries import CATBOOST, LIGHTGBM, ONNXRUNTIME, XGBOOST
from release.build import CHECKOUT, SOURCES, BuildError, build, source_moment
from support.built_wheel import BuiltWheel
from support.workshop import Workshop

pytestmark = pytest.mark.slow  # a process builds the wheel

PLUGINS = CHECKOUT / "plugins"


def package_files() -> set[str]:
    """What is in the package's folder, without what Python leaves there."""
    found = (path for path in (PLUGINS / "mlops_plugin").rglob("*") if path.is_file())
    return {path.relative_to(PLUGINS).as_posix() for path in found if path.parent.name != "__pycache__"}


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: BuiltWheel) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == package_files()
    assert {Path(name).suffix for name in names} >= {".py", ".html", ".css", ".js", ".mako", ".typed"}


def test_the_wheel_is_named_for_the_version_of_the_project(built: BuiltWheel) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert built.wheel.name == f"mlops_plugin-{project['version']}-py3-none-any.whl"


def test_the_sdist_holds_what_the_wheel_is_built_from(built: BuiltWheel) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert names >= {f"plugins/{name}" for name in package_files()} | {
        "pyproject.toml",
        "README.md",
        "LICENSE",
    }
    assert not any(name.startswith(("tests/", "include/", ".")) for name in names)


def test_another_time_place_and_mask_give_the_same_bytes(
    built: BuiltWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SOURCES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copyfile
        copy(CHECKOUT / name, tmp_path / name)
    (tmp_path / "plugins" / "mlops_plugin" / "web" / "pages.py").chmod(0o600)
    (tmp_path / "plugins" / "mlops_plugin" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "plugins" / "mlops_plugin" / "__pycache__" / "errors.cpython-311.pyc").touch()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(source_moment(CHECKOUT)))
    mask = os.umask(0o077)
    try:
        again = build(tmp_path, tmp_path / "dist")
    finally:
        os.umask(mask)
    for first, second in zip((built.sdist, built.wheel), again, strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()


def test_sources_that_cannot_be_built_are_told_by_what_setuptools_says(tmp_path: Path) -> None:
    for name in SOURCES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("[project]\nname = 1\n")
    with pytest.raises(BuildError, match="invalid pyproject"):
        build(tmp_path, tmp_path / "dist")


def requirements(built: BuiltWheel) -> list[Requirement]:
    (found,) = importlib.metadata.distributions(path=[str(built.site)])
    return [Requirement(line) for line in found.requires or ()]


def test_the_versions_that_are_tested_lie_in_the_ranges_that_are_asked_for(built: BuiltWheel) -> None:
    lock = (CHECKOUT / "requirements-dev.txt").read_text()
    locked = {canonicalize_name(name): version for name, version in re.findall(r"^(\S+?)==(\S+)", lock, re.M)}
    wanted = [found for found in requirements(built) if not found.extras]
    assert len(wanted) > 20
    assert [
        str(found) for found in wanted if not found.specifier.contains(locked[canonicalize_name(found.name)])
    ] == []
    assert [str(found) for found in wanted if "==" in str(found.specifier)] == []


# By what is asked for (scikit-learn, Jinja2, pydantic), or only used where somebody has it.
BROUGHT_ALONG = {"scipy", "markupsafe", "pydantic-core", "polars", "narwhals"}


def imported_modules() -> set[str]:
    nodes = (
        node
        for path in (PLUGINS / "mlops_plugin").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"mlops_plugin"}


def test_every_package_that_is_imported_is_asked_for_by_us_or_by_airflow(built: BuiltWheel) -> None:
    of_airflow = [
        Requirement(line)
        for package in ("apache-airflow-core", "apache-airflow-task-sdk")
        for line in importlib.metadata.requires(package) or ()
    ]
    asked = {canonicalize_name(found.name) for found in [*requirements(built), *of_airflow]}
    packages = importlib.metadata.packages_distributions()
    unasked = {
        module
        for module in imported_modules()
        if not {canonicalize_name(name) for name in packages.get(module, [module])} & (asked | BROUGHT_ALONG)
    }
    assert unasked == set()


def test_an_airflow_gets_no_provider_and_no_driver_that_it_did_not_ask_for(built: BuiltWheel) -> None:
    always = {found.name for found in requirements(built) if found.marker is None}
    assert not any(name.startswith("apache-airflow-providers") for name in always)
    assert not always & {"mysqlclient", "celery", "arrow-odbc", "psycopg2-binary", "mysql-connector-python"}
    names = {found.name for found in requirements(built)}
    assert {name for name in names if name.startswith("apache-airflow")} == {"apache-airflow-core"}


def test_an_extra_asks_for_the_releases_that_its_format_supports(built: BuiltWheel) -> None:
    asked = {found.name: found for found in requirements(built)}
    for library in (LIGHTGBM, XGBOOST, CATBOOST, ONNXRUNTIME):
        supported = Requirement(library.requirement)
        assert asked[library.package].specifier == supported.specifier


def test_the_extra_all_names_every_other_extra(built: BuiltWheel) -> None:
    (found,) = importlib.metadata.distributions(path=[str(built.site)])
    (everything,) = (wanted for wanted in requirements(built) if wanted.name == "mlops-plugin")
    assert {"all", *everything.extras} == set(found.metadata.get_all("Provides-Extra") or ())


# As an installed `mlops` does it: by the wheel's own entry point.
_RUN = """
import importlib.metadata, json, sys
import mlops_plugin
from mlops_plugin.web.pages import Pages

(package,) = importlib.metadata.distributions(path=[sys.argv[1]])
(script,) = package.entry_points.select(group="console_scripts")
mlops = script.load()
pages = Pages()
print(json.dumps({
    "place": mlops_plugin.__path__[0],
    "status": [mlops(words) for words in (["db", "upgrade"], ["check", "--connect"], ["schema"])],
    "assets": sorted(pages.assets),
    "templates": [pages.environment.get_template(name).name for name in pages.environment.list_templates()],
}))
"""


def test_the_wheel_alone_checks_a_model_and_has_its_pages(built: BuiltWheel, workshop: Workshop) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(built.site),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),  # a second copy: noted, and not used
    }
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(built.site)],
        cwd=workshop.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert Path(told["place"]) == built.site / "mlops_plugin"
    assert told["status"] == [0, 0, 0]
    assert "1 of 1 models OK" in done.stdout
    (note,) = (line for line in done.stdout.splitlines() if line.startswith("note  installation: "))
    assert str(PLUGINS / "mlops_plugin") in note
    sources = package_files()
    assert len(told["assets"]) == sum("/static/" in name for name in sources)
    assert len(told["templates"]) == sum("/templates/" in name for name in sources)
