"""Environments are built once, whole or not at all, of what the requirements say, and removed after use."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from mlops_plugin.config.loader import load_config
from mlops_plugin.environments.building import build
from mlops_plugin.environments.interpreters import find_uv, installer
from mlops_plugin.environments.requirements import Requirements
from mlops_plugin.errors import EnvironmentUnusable
from support.own_environments import (
    add_model,
    environment_of,
    require,
    scorer,
    sync,
)
from support.small_wheels import sha256_of_wheel
from support.workshop import Workshop

Captured = pytest.CaptureFixture[str]


def _locked(wheels: Path, *names: str) -> list[str]:
    """Requirements with the hash of each wheel."""
    found = [next(wheels.glob(f"{name.replace('==', '-')}-*.whl")) for name in names]
    return [
        f"{name} \\\n    --hash=sha256:{sha256_of_wheel(path)}"
        for name, path in zip(names, found, strict=True)
    ]


def test_callers_at_the_same_time_build_one_environment(own: Workshop, wheels: Path) -> None:
    environment, built = environment_of(own), []

    def build_one() -> None:
        built.append(build(environment, lambda _: None, wheels))

    threads = [threading.Thread(target=build_one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(built) == [False, False, True]
    assert environment.is_built


def test_a_build_that_was_killed_is_begun_again(own: Workshop, wheels: Path) -> None:
    environment = environment_of(own)
    rest = environment.folder / f".{environment.key}.part" / "bin"
    rest.mkdir(parents=True)
    assert sync(own, wheels) == 0
    assert not rest.exists()
    assert environment.is_built


def test_a_locked_file_is_installed_without_a_warning(own: Workshop, wheels: Path, capsys: Captured) -> None:
    require(own, *_locked(wheels, "old_scores==1.0", "numpy==99.0", "pyarrow==99.0"))
    assert sync(own, wheels, "churn") == 0
    assert "warning" not in capsys.readouterr().out


def test_another_file_than_the_locked_one_is_refused_and_leaves_nothing(
    own: Workshop, wheels: Path, capsys: Captured
) -> None:
    right = _locked(wheels, "old_scores==1.0", "numpy==99.0", "pyarrow==99.0")
    require(own, right[0][:-64] + "0" * 64, *right[1:])
    assert sync(own, wheels) == 1
    assert "installing its packages failed" in capsys.readouterr().out
    left = environment_of(own).folder.iterdir()
    assert [path.name for path in left if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize(
    ("lines", "warned"),
    [
        (["old-scores==1.0", "numpy==99.0", "pyarrow==99.0"], ["hashes"]),
        (["old-scores"], ["old-scores", "numpy and pyarrow"]),
    ],
)
def test_what_may_differ_on_another_day_is_said(
    own: Workshop, wheels: Path, capsys: Captured, lines: list[str], warned: list[str]
) -> None:
    require(own, *lines)
    assert sync(own, wheels) == 0
    said = "\n".join(line for line in capsys.readouterr().out.splitlines() if line.startswith("warning"))
    assert [word for word in warned if word not in said] == []


@pytest.mark.parametrize(
    "line",
    ["-r others.txt", "-rothers.txt", "--constraint limits.txt", "-e ./mine", "./mine", "a @ file:///a"],
)
def test_a_file_that_refers_to_others_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "churn.txt"
    path.write_text(f"numpy==2.0\n{line}\n")
    with pytest.raises(EnvironmentUnusable, match=r"churn\.txt"):
        Requirements.read(str(path))


def test_a_python_that_is_not_here_is_named(own: Workshop, wheels: Path, capsys: Captured) -> None:
    add_model(own, scorer(), "old-scores==1.0", python="3.19")
    assert sync(own, wheels) == 1
    assert "python3.19" in capsys.readouterr().out


def test_an_environment_stays_while_the_entry_of_some_model_is_broken(
    own: Workshop, wheels: Path, capsys: Captured
) -> None:
    assert sync(own, wheels) == 0
    environment = environment_of(own)
    own.add_model("churn", key=[])
    assert own.loaded.broken
    assert sync(own, wheels) == 1
    assert environment.is_built


def test_pip_installs_where_only_pip_knows_the_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv, python = find_uv(), tmp_path / "bin" / "python"
    assert uv is not None
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_CERT", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    assert installer(python, is_offline=False)[0] == uv
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example.org/simple")
    assert installer(python, is_offline=False)[:3] == [sys.executable, "-m", "pip"]
    assert installer(python, is_offline=True)[0] == uv
    monkeypatch.setenv("UV_INDEX_URL", "https://mirror.example.org/simple")
    assert installer(python, is_offline=False)[0] == uv


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (
            {"environment": {"requirements": "churn.txt", "python": 3.1}},  # 3.10 without quotes
            "models.churn.model.environment.python",
        ),
        (
            {"environment": {"requirements": "churn.txt", "python": "3.9"}},
            "models.churn.model.environment.python",
        ),
        ({"environment": {"python": "3.11"}}, "models.churn.model.environment.requirements"),
        (
            {"isolation": "none", "environment": {"requirements": "churn.txt", "python": "3.11"}},
            "models.churn.model.environment",
        ),
    ],
)
def test_an_entry_that_cannot_be_is_refused_with_its_place(
    workshop: Workshop, change: dict[str, object], place: str
) -> None:
    workshop.add_model("churn", model={"format": "skops", "uri": "churn.skops", **change})
    loaded = load_config(workshop.config_file)
    assert [problem.path for problem in loaded.problems] == [place]


def test_a_python_without_quotes_is_read_as_it_is_written(workshop: Workshop) -> None:
    environment = {"requirements": "churn.txt", "python": 3.11}
    workshop.add_model("churn", model={"format": "skops", "uri": "churn.skops", "environment": environment})
    found = workshop.model().model.environment
    assert found is not None
    assert found.python == "3.11"
