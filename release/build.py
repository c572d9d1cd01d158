"""Builds the sdist and the wheel: `make dist`. The same sources give the same bytes, anywhere and any time.

It needs setuptools, which is installed, and no network. The wheel is built from the unpacked sdist, so the
sdist is complete.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "plugins/mlops_plugin")
_NO_SOURCES = shutil.ignore_patterns("__pycache__", "*.py[co]", ".*")
_FIRST_OF_ZIP = 315532800  # 1980-01-01, before which a zip file has no time
_FILE_MODE, _FOLDER_MODE, _UMASK = 0o644, 0o755, 0o022
_BACKEND = "import sys, setuptools.build_meta as backend; getattr(backend, sys.argv[1])(sys.argv[2])"


class BuildError(Exception):
    """The package cannot be built; the message has what setuptools said."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make dist", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=CHECKOUT / "dist")
    options = parser.parse_args(arguments)
    try:
        for path in build(CHECKOUT, options.folder):
            print(path)
    except BuildError as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


def build(checkout: Path, folder: Path) -> tuple[Path, Path]:
    """Build both into `folder`; returns the paths of the sdist and the wheel. Raises `BuildError`."""
    moment = source_moment(checkout)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        sources = scratch / "sources"
        _copy(checkout, sources)
        raw = _run_backend("build_sdist", sources, scratch / "sdist", moment)
        sdist = folder / raw.name
        _repack(raw, sdist, moment)
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch / "unpacked", filter="data")
        (unpacked,) = (scratch / "unpacked").iterdir()
        wheel = _run_backend("build_wheel", unpacked, scratch / "wheel", moment)
        return sdist, Path(shutil.copy(wheel, folder))


def source_moment(checkout: Path) -> int:
    """The time of every packed file: SOURCE_DATE_EPOCH, else that of the last commit, else a fixed one."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    command = ["git", "-C", str(checkout), "log", "-1", "--format=%ct", "--", *SOURCES]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found = ""
    return int(found) if found else _FIRST_OF_ZIP


def _copy(checkout: Path, target: Path) -> None:
    """The sources alone: what an earlier build left beside them must not get in."""
    for name in SOURCES:
        source, copy = checkout / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=_NO_SOURCES)
        else:
            shutil.copyfile(source, copy)
    for path in target.rglob("*"):
        path.chmod(_FOLDER_MODE if path.is_dir() else _FILE_MODE)


def _run_backend(call: str, sources: Path, folder: Path, moment: int) -> Path:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _BACKEND, call, str(folder)],
        cwd=sources,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(moment)},
        umask=_UMASK,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"setuptools failed ({call}):\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    (built,) = folder.iterdir()
    return built


def _repack(raw: Path, target: Path, moment: int) -> None:
    """The same archive in a fixed order, with fixed times and owners; setuptools writes this machine's."""
    with (
        tarfile.open(raw) as archive,
        target.open("wb") as stream,
        _zipped(stream, moment) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as packed,
    ):
        for member in sorted(archive.getmembers(), key=lambda found: found.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = moment, 0, 0, "", ""
            member.mode = _FOLDER_MODE if member.isdir() else _FILE_MODE
            member.pax_headers = {}
            packed.addfile(member, archive.extractfile(member))


def _zipped(stream: BinaryIO, moment: int) -> gzip.GzipFile:
    return gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=moment)


if __name__ == "__main__":
    sys.exit(main())
