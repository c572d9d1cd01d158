"""Folders and archives that were made to harm: refused before a file beyond them is read, or a memory is "
"filled."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.errors import ArtifactError
from mlops_plugin.formats.artifact import sha256_of
from mlops_plugin.formats.mlflow_models.input_parsing import parse_input
from mlops_plugin.formats.runtime import load_runtime

MODEL = Path(__file__).parents[2] / "support" / "mlflow_folders" / "skops" / "model"
DESCRIPTION = (MODEL / "MLmodel").read_bytes()
FILE = "model.skops"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL, tmp_path / "churn"))


def refusal(uri: Path) -> str:
    with pytest.raises(ArtifactError) as refused:
        load_runtime(ArtifactConfig(format="mlflow", uri=str(uri)), features=None)
    assert str(uri) in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/hostname", "a/../../secret", "./model.pkl", "a\\b", "a//b", ""]
)
def test_a_path_that_leaves_the_folder_is_refused(path: str, folder: Path) -> None:
    (folder.parent / "secret").write_bytes((folder / FILE).read_bytes())
    text = DESCRIPTION.decode()
    assert text.count(f"pickled_model: {FILE}") == 1
    (folder / "MLmodel").write_text(text.replace(f"pickled_model: {FILE}", f"pickled_model: '{path}'"))
    assert "not below the model's folder" in refusal(folder)


@pytest.mark.parametrize("name", ["MLmodel", FILE, "conda.yaml", "data"])
def test_a_link_in_the_folder_is_refused(name: str, folder: Path) -> None:
    target = folder.parent / "elsewhere"
    if name == "data":
        target.mkdir()
    else:
        (folder / name).rename(target)
    (folder / name).symlink_to(target)
    assert f"a link in its folder, '{name}'" in refusal(folder)
    with pytest.raises(ArtifactError):  # what the step `log` asks
        sha256_of(ArtifactConfig(format="mlflow", uri=str(folder)))


@pytest.mark.parametrize("name", ["MLmodel", FILE])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert name in refusal(folder)


@pytest.mark.parametrize(
    "description",
    [
        b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n, n, b", ".join([b"*%c" % (n - 1)] * 10)) for n in range(98, 108)),
        b"flavors: " + b"[" * 100_000,
        b"flavors: !!python/object/apply:os.system ['touch /tmp/x']\n",
        b"flavors: &f {sklearn: *f}\n",
        b"flavors: {sklearn: {pickled_model: model.skops}, sklearn: {pickled_model: conda.yaml}}\n",
        b"flavors: [sklearn]\n",
        b"<html><body>Log in</body></html>",
        b"",
        b"\xff\xfe",
        b"#" * (2 << 20),
    ],
    ids=["aliases", "depth", "tag", "itself", "twice", "list", "html", "empty", "utf-16", "size"],
)
def test_a_description_that_is_none_is_refused(description: bytes, folder: Path) -> None:
    (folder / "MLmodel").write_bytes(description)
    assert "MLmodel" in refusal(folder)


Pack = Callable[[Path], object]


def pack_zip(path: Path, entries: dict[str, bytes], mode: int = stat.S_IFREG | 0o644) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (mode if name != "MLmodel" else stat.S_IFREG | 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, content)


def pack_tar(path: Path, *entries: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w:gz") as packed:
        description = tarfile.TarInfo("MLmodel")
        description.size = len(DESCRIPTION)
        packed.addfile(description, io.BytesIO(DESCRIPTION))
        for entry in entries:
            packed.addfile(entry, io.BytesIO(b"x" * entry.size))


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, target, size
    return entry


WHOLE = {"MLmodel": DESCRIPTION, FILE: (MODEL / FILE).read_bytes()}
ARCHIVES: dict[str, tuple[str, Pack, str]] = {
    "zip up": ("a.zip", lambda path: pack_zip(path, {**WHOLE, "../up": b""}), "not below"),
    "zip root": ("a.zip", lambda path: pack_zip(path, {**WHOLE, "/etc/up": b""}), "not below"),
    "zip link": ("a.zip", lambda path: pack_zip(path, WHOLE, stat.S_IFLNK | 0o777), "a link or a device"),
    "zip bomb": (
        "a.zip",
        lambda path: pack_zip(path, {**WHOLE, FILE: bytes(65 << 20)}),
        "unpacks to more than",
    ),
    "tar up": ("a.tar.gz", lambda path: pack_tar(path, member("../up")), "not below"),
    "tar root": ("a.tar.gz", lambda path: pack_tar(path, member("/up")), "not below"),
    "tar symlink": (
        "a.tar.gz",
        lambda path: pack_tar(path, member(FILE, tarfile.SYMTYPE, "/etc/hostname")),
        "a link",
    ),
    "tar hard link": (
        "a.tar.gz",
        lambda path: pack_tar(path, member(FILE, tarfile.LNKTYPE, "MLmodel")),
        "a link",
    ),
    "tar device": ("a.tar.gz", lambda path: pack_tar(path, member(FILE, tarfile.CHRTYPE)), "a device"),
    "tar pipe": ("a.tar.gz", lambda path: pack_tar(path, member(FILE, tarfile.FIFOTYPE)), "a device"),
    "tar twice": ("a.tar.gz", lambda path: pack_tar(path, member(FILE), member(FILE)), "twice"),
    "tar bomb": (
        "a.tar.gz",
        lambda path: pack_tar(path, member(FILE, size=65 << 20)),
        "unpacks to more than",
    ),
    "gzip of nothing else": (
        "a.tar.gz",
        lambda path: path.write_bytes(gzip.compress(bytes(65 << 20))),
        "a.tar.gz",
    ),
    "no archive": ("a.zip", lambda path: path.write_bytes(b"<html>"), "neither a folder nor a zip"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_is_not_a_plain_model_is_refused(name: str, tmp_path: Path) -> None:
    file, pack, fact = ARCHIVES[name]
    pack(tmp_path / file)
    assert fact in refusal(tmp_path / file)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_damaged_archive_is_refused_and_never_crashes(kind: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole.{kind}"
    if kind == "zip":
        pack_zip(whole, WHOLE)
    else:
        with tarfile.open(whole, "w:gz") as packed:
            packed.add(MODEL, ".")
    content = whole.read_bytes()
    damaged = tmp_path / f"damaged.{kind}"
    for end in range(0, len(content), len(content) // 12):
        damaged.write_bytes(content[:end])
        refusal(damaged)
    for place in range(50, len(content), len(content) // 12):
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        try:
            load_runtime(ArtifactConfig(format="mlflow", uri=str(damaged)), features=None)
        except ArtifactError:
            continue  # a byte that nothing reads may differ, too: a time, a comment


def test_a_name_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff")).touch()
    assert "not plainly written" in refusal(folder)


def test_folders_in_endless_levels_are_refused(folder: Path) -> None:
    Path(folder, *["d"] * 900).mkdir(parents=True)
    assert "more than 50 levels" in refusal(folder)


@pytest.mark.parametrize("width", [10**8, 10**30])
def test_a_tensor_whose_columns_would_fill_a_memory_is_refused(width: int) -> None:
    spec = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, width]}}
    with pytest.raises(ArtifactError, match="more than 100000"):
        parse_input("churn", json.dumps([spec]))


def test_a_column_whose_name_is_no_text_is_refused() -> None:
    with pytest.raises(ArtifactError, match="no text"):
        parse_input("churn", r'[{"type": "double", "name": "\ud800"}]')


def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(folder: Path) -> None:
    (folder / FILE).unlink()
    os.mkfifo(folder / FILE)
    with pytest.raises(ArtifactError, match="pipe"):
        load_runtime(ArtifactConfig(format="mlflow", uri=str(folder)), features=None)
