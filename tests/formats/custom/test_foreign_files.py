"""Formats of other packages: found by name, loaded in the confined process, refused if something is odd."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_plugin.cli import main
from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.errors import ArtifactChanged, ArtifactError, DriverMissing, MlopsError
from mlops_plugin.formats.runtime import load_runtime
from mlops_plugin.workers.isolation import StepModels
from mlops_plugin.workers.process import ModelProcess
from support.workshop import Workshop

PACKAGE = Path(__file__).parents[2] / "support" / "format_package"
CARD = {"points": {"b": 2.0, "a": -1.0}, "labels": ["leaves", "stays"]}
Register = Callable[..., None]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example package is installed, by pip."""
    source, site = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE, source)
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(site), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return site


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Register:
    """Install a package without code that registers formats."""

    def register(package: str, **formats: str) -> None:
        folder = tmp_path / f"{package}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        lines = [f"{name.replace('__', '.')} = {value}" for name, value in formats.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[mlops_plugin.formats]", *lines, ""]))

    monkeypatch.syspath_prepend(str(tmp_path))
    return register


def artifact(folder: Path, file_format: str = "acme.scorecard", card: object = CARD) -> ArtifactConfig:
    content = json.dumps(card).encode()
    (folder / "card.json").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return ArtifactConfig(format=file_format, uri=str(folder / "card.json"), sha256=sha256)


def refusal(artifact: ArtifactConfig, error: type[MlopsError]) -> str:
    with pytest.raises(error) as found:
        load_runtime(artifact, features=None)
    assert type(found.value) is error
    return str(found.value)


def test_a_file_of_an_installed_packages_format_is_checked_signed_and_dispatched_confined(
    installed: None, workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = artifact(workshop.folder)
    model = {"format": entry.format, "uri": "card.json", "sha256": entry.sha256}
    workshop.add_model("churn", model=model)
    assert main(["sign", "churn"]) == 0
    assert main(["check", "--connect", "churn"]) == 0
    assert "the model runs in a process without files" in capsys.readouterr().out
    models = StepModels(must_be_confined=False)
    try:
        assert isinstance(models.load(workshop.model()), ModelProcess)
    finally:
        models.close()
    assert main(["dispatch", "churn"]) == 0
    rows = {row[0]: row[1:] for row in workshop.in_source("SELECT id, a, b FROM customers")}
    found = workshop.predictions()
    assert len(found) == len(rows) == 5
    for row in found:
        a, b = rows[row["id"]]
        assert row["prediction"] == ("stays" if 2 * b > a else "leaves")
        assert (row["probability_stays"] > 0.5) is (2 * b > a)
    assert {row["artifact_sha256"] for row in found} == {entry.sha256}


def test_reading_the_configuration_imports_no_package_that_registers_a_format(
    register: Register, tmp_path: Path
) -> None:
    (tmp_path / "loud_format.py").write_text("raise SystemExit('imported')")
    register("loud", acme__loud="loud_format:load")
    assert artifact(tmp_path, "acme.loud").is_isolated


@pytest.mark.parametrize(
    ("written", "facts"),
    [
        ("acme.scorcard", ("'acme.scorcard'", "did you mean 'acme.scorecard'?", "skops")),
        ("scorecard", ("'scorecard'", "acme.scorecard", "skops")),
        ("pmml.of_nobody", ("'pmml.of_nobody'", "install", "acme.scorecard")),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(
    written: str, facts: tuple[str, ...], installed: None, workshop: Workshop
) -> None:
    workshop.add_model("churn", model={"format": written, "uri": "card.json", "sha256": "a" * 64})
    (problem,) = workshop.loaded.broken["churn"]
    assert problem.path == "models.churn.model.format"
    assert [fact for fact in facts if fact not in problem.message] == []


def test_the_schema_that_mlops_prints_has_the_formats_that_are_installed(
    installed: None, workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema"]) == 0
    names = json.loads(capsys.readouterr().out)["$defs"]["ArtifactConfig"]["properties"]["format"]["enum"]
    assert names[0] == "skops"
    assert names[-1] == "acme.scorecard"


def test_the_file_must_be_the_pinned_one(installed: None, workshop: Workshop, tmp_path: Path) -> None:
    workshop.add_model("churn", model={"format": "acme.scorecard", "uri": "card.json"})
    (problem,) = workshop.loaded.broken["churn"]
    assert (problem.path, "sha256sum card.json" in problem.message) == ("models.churn.model.sha256", True)
    found = artifact(tmp_path)
    (tmp_path / "card.json").write_text("{}")
    assert "card.json" in refusal(found, ArtifactChanged)


def test_no_package_takes_the_place_of_a_format_of_ours(register: Register, workshop: Workshop) -> None:
    register("taker", skops="taker:load", pmml="taker:load")
    workshop.run(workshop.dispatch())
    assert len(workshop.predictions()) == 5
    workshop.add_model("churn", model={"format": "pmml", "uri": "a", "sha256": "a" * 64})
    (problem,) = workshop.loaded.broken["churn"]
    assert problem.path == "models.churn.model.format"


def test_a_name_that_two_packages_register_is_refused(
    installed: None, register: Register, workshop: Workshop
) -> None:
    register("other-cards", acme__scorecard="acme_scorecard:load")
    workshop.add_model("churn", model={"format": "acme.scorecard", "uri": "a", "sha256": "a" * 64})
    (problem,) = workshop.loaded.broken["churn"]
    assert "acme-scorecard, other-cards" in problem.message


@pytest.mark.parametrize(
    ("value", "error", "facts"),
    [
        ("nothing_like_it:load", DriverMissing, ("ModuleNotFoundError", "package odd ")),
        ("json:nothing_like_it", DriverMissing, ("AttributeError", "json:nothing_like_it")),
        ("antigravity_exits:load", DriverMissing, ("SystemExit",)),
        ("json:__doc__", ArtifactError, ("a str, not a function",)),
        ("json:JSONDecoder", ArtifactError, ("not a function",)),
        ("json:loads", ArtifactError, ("builtins.dict", "no `predict`")),
        ("os:kill", ArtifactError, ("TypeError", "acme.odd", "package odd ")),
    ],
)
def test_a_package_that_registers_no_loader_is_named(
    value: str, error: type[MlopsError], facts: tuple[str, ...], register: Register, tmp_path: Path
) -> None:
    (tmp_path / "antigravity_exits.py").write_text("raise SystemExit(0)")
    register("odd", acme__odd=value)
    said = refusal(artifact(tmp_path, "acme.odd"), error)
    assert [fact for fact in facts if fact not in said] == []


def test_a_file_that_the_package_cannot_read_is_refused(installed: None, tmp_path: Path) -> None:
    said = refusal(artifact(tmp_path, card={"labels": []}), ArtifactError)
    assert "KeyError: 'points'" in said
    assert "acme-scorecard" in said
