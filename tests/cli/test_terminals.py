"""Where `mlops` is started and what takes its output: each fault is one clear line, and no traceback."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_plugin.cli import main
from support.workshop import Workshop

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("words", [["check"], ["schema"]])
def test_a_full_disk_takes_no_output(
    words: list[str], workshop: Workshop, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        assert main(words) == 1
    assert capsys.readouterr().err == "mlops: the output cannot be written: No space left on device\n"


def test_a_terminal_of_another_encoding_shows_what_it_cannot(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="latin-1"))
    assert main(["check", "chürn", "ч", "\udcff"]) == 1
    said = shown.getvalue().decode("latin-1")
    assert [name in said for name in ("'chürn'", "'\\u0447'", "'\\udcff'")] == [True] * 3


def test_a_name_that_is_too_long_is_no_file(capsys: Captured) -> None:
    assert main(["--config", "x" * 5000, "check"]) == 1
    assert "cannot be read: File name too long" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"export A='b\n", b"export A=\xff\n"])
def test_a_damaged_environment_of_a_checkout_is_named(
    content: bytes, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "env").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIRFLOW_HOME", raising=False)
    assert main(["check"]) == 1
    assert "mlops: .local/env: cannot be read: " in capsys.readouterr().err


def test_a_folder_that_is_gone_holds_no_checkout(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.delenv("AIRFLOW_HOME")
    assert main(["check"]) == 0
    monkeypatch.chdir(tmp_path)


# Ctrl-C reaches it even if the tests run in the background of a shell, which lets them ignore it.
_COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from mlops_plugin.cli import main; raise SystemExit(main())"
)


def _mlops(workshop: Workshop, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND, "check"],
        cwd=workshop.folder,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "PYTHONPATH": str(Path(__file__).parents[2] / "plugins"),
            **workshop.environment,
            **more,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_settings_of_airflow_that_cannot_be_read_are_named(workshop: Workshop) -> None:
    workshop.home.mkdir(exist_ok=True)
    (workshop.home / "airflow.cfg").write_text("sql_alchemy_conn\n")
    said = _mlops(workshop).communicate()[1]
    assert f"{workshop.home}/airflow.cfg: Airflow's settings cannot be used" in said
    assert "Traceback" not in said


def test_an_interruption_while_airflow_is_imported_is_one(workshop: Workshop) -> None:
    """The command that gives Airflow its database's address interrupts, where one would press Ctrl-C."""
    interrupts = f"{sys.executable} -c 'import os, signal; os.kill(os.getppid(), signal.SIGINT)'"
    running = _mlops(workshop, AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD=interrupts)
    assert running.communicate(timeout=300)[1].endswith("mlops: interrupted\n")
    assert running.returncode in (130, -signal.SIGINT)
