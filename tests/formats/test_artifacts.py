"""Model files that are missing, altered, foreign or dangerous are refused in words."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
import xgboost
from lightgbm import LGBMRegressor
from sklearn.cluster import DBSCAN
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline

from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.errors import ArtifactError, BaselineUnreadable, DriverMissing, SignatureError
from mlops_plugin.formats.runtime import Runtime, artifact_sha256, load_runtime
from mlops_plugin.formats.signature.signature import LARGEST_BYTES, read_content
from mlops_plugin.pipeline.validation.baseline import read_baseline

COLUMNS = ("a", "b", "c", "d")
TREE = "sklearn.tree._tree.Tree"


@pytest.fixture(scope="module")
def regression() -> Any:
    return LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True))


@pytest.fixture(scope="module")
def forest() -> Any:
    return RandomForestClassifier(2).fit(*load_iris(return_X_y=True))


def load(
    path: Path | str, kind: str = "joblib", sha256: str | None = "", trusted: tuple[str, ...] = ()
) -> Runtime:
    """Load a file; its pin is the right one unless another is given, None is no pin."""
    pinned = artifact_sha256(str(path)) if sha256 == "" else sha256
    # Not validated: the loader must refuse by itself what the configuration would refuse, too.
    artifact = ArtifactConfig.model_construct(format=kind, uri=str(path), sha256=pinned, trusted=trusted)
    return load_runtime(artifact, features=COLUMNS)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_the_hash_is_the_one_sha256sum_prints(tmp_path: Path) -> None:
    content = bytes(3_000_000)
    path = written(tmp_path / "model", content)
    expected = hashlib.sha256(content).hexdigest()
    assert artifact_sha256(str(path)) == artifact_sha256(path.as_uri()) == expected


def test_hashing_a_local_file_imports_no_library(tmp_path: Path) -> None:
    program = (
        "import sys; from mlops_plugin.formats.runtime import artifact_sha256;"
        "artifact_sha256(sys.argv[1]);"
        "heavy = {'numpy', 'pyarrow', 'sklearn', 'skops', 'joblib', 'pandas', 'fsspec'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    path = written(tmp_path / "model", b"x")
    plugins = str(Path(__file__).parents[2] / "plugins")
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, env={"PYTHONPATH": plugins})


@pytest.mark.parametrize("compress", [0, 3, ("bz2", 9)])
def test_joblib_files_load_compressed_or_not(tmp_path: Path, regression: Any, compress: Any) -> None:
    joblib.dump(regression, tmp_path / "model", compress=compress)
    assert load(tmp_path / "model").outputs.names[0] == "prediction"


def test_a_file_url_loads_like_a_path(tmp_path: Path, regression: Any) -> None:
    path = written(tmp_path / "model.pkl", pickle.dumps(regression))
    assert load(path.as_uri(), "pickle").features == COLUMNS


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "none"), (tmp_path / "none").as_uri()):
        with pytest.raises(ArtifactError, match="none'"):
            load(uri, sha256="0" * 64)
        with pytest.raises(ArtifactError, match="none'"):
            artifact_sha256(uri)


def test_a_directory_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=re.escape(str(tmp_path))):
        load(tmp_path, sha256="0" * 64)


def test_an_unknown_storage_is_named() -> None:
    with pytest.raises(ArtifactError, match="nosuch"):
        load("nosuch://bucket/model", sha256="0" * 64)
    with pytest.raises(DriverMissing, match="gcsfs"):
        load("gs://bucket/model", sha256="0" * 64)


def test_what_a_storage_says_in_its_own_way_is_an_error_of_the_artifact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    with pytest.raises(ArtifactError, match=r"'s3://bucket/model'.*credentials"):
        load("s3://bucket/model", sha256="0" * 64)


@pytest.mark.parametrize("kind", ["joblib", "pickle", "skops"])
def test_an_empty_file_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ArtifactError, match=re.escape(str(tmp_path / "model"))):
        load(written(tmp_path / "model", b""), kind)


@pytest.mark.parametrize("kind", ["joblib", "pickle", "skops"])
def test_a_file_cut_short_is_refused_wherever_it_ends(tmp_path: Path, regression: Any, kind: str) -> None:
    content = saved(regression, kind)
    for part in range(1, 20):
        with pytest.raises(ArtifactError, match=kind):
            load(written(tmp_path / "model", content[: len(content) * part // 20]), kind)


@pytest.mark.parametrize("kind", ["joblib", "pickle", "skops"])
@pytest.mark.parametrize("content", [b"PK\x03\x04", b"hello\n", b"\x80\x05.", b"\x00" * 100, b"{}"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, kind: str, content: bytes) -> None:
    with pytest.raises(ArtifactError) as refused:
        load(written(tmp_path / "model", content), kind)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("written_as", "said"),
    [("skops", "joblib"), ("skops", "pickle"), ("joblib", "skops"), ("joblib", "pickle")],
)
def test_a_file_in_another_format_than_said_is_told_its_own(
    tmp_path: Path, forest: Any, written_as: str, said: str
) -> None:
    with pytest.raises(ArtifactError, match=f"`format: {written_as}`"):
        load(written(tmp_path / "model", saved(forest, written_as)), said)


def test_a_compressed_pickle_is_joblibs(tmp_path: Path, regression: Any) -> None:
    path = written(tmp_path / "model", gzip.compress(saved(regression, "pickle")))
    with pytest.raises(ArtifactError, match="`format: joblib`"):
        load(path, "pickle")
    assert load(path, "joblib").features == COLUMNS


@pytest.mark.parametrize("kind", ["joblib", "pickle", "skops"])
def test_a_page_that_was_downloaded_instead_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ArtifactError, match="HTML"):
        load(written(tmp_path / "model", b"\n<!DOCTYPE html><html>Sign in</html>"), kind)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (DBSCAN().fit([[0.0], [1.0]]), "DBSCAN"),
        (LocalOutlierFactor(n_neighbors=1).fit([[0.0], [1.0]]), r"novelty=True"),
        (xgboost.train({}, xgboost.DMatrix([[0.0], [1.0]], [0, 1]), 1), "XGBClassifier"),
        (
            GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2, refit=False).fit(
                [[0.0], [1.0]] * 4, [0, 1] * 4
            ),
            "refit=False, which keeps no model",
        ),
        (LGBMRegressor(), "was not fitted"),
        (xgboost.XGBRegressor(), "was not fitted"),
    ],
    ids=["clusterer", "detector", "booster", "search", "LightGBM", "XGBoost"],
)
def test_what_cannot_predict_new_rows_is_told_what_can(tmp_path: Path, model: Any, found: str) -> None:
    with pytest.raises(ArtifactError, match=found):
        load(written(tmp_path / "model", saved(model, "pickle")), "pickle")


def test_a_name_that_another_release_of_a_module_had_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"'gone'.*'support\.shop_code'"):
        load(written(tmp_path / "model", b"csupport.shop_code\ngone\n."), "pickle")


def test_a_zip_that_is_no_skops_file_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(ArtifactError, match="skops"):
        load(tmp_path / "model", "skops")


@pytest.mark.parametrize("kind", ["joblib", "pickle", "skops"])
def test_what_cannot_predict_is_no_model(tmp_path: Path, regression: Any, kind: str) -> None:
    path = written(tmp_path / "model", saved({"model": regression}, kind))
    with pytest.raises(ArtifactError, match=r"builtins\.dict"):
        load(path, kind)


def test_a_class_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="`predict`"):
        load(written(tmp_path / "model", pickle.dumps(LogisticRegression)), "pickle")


def test_a_runtime_says_which_bytes_it_was_loaded_from(tmp_path: Path, regression: Any) -> None:
    for kind in ("skops", "joblib", "pickle"):
        path = written(tmp_path / "model", saved(regression, kind))
        assert load(path, kind).artifact_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_model_that_was_never_fitted_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "model", saved(LogisticRegression(), "skops"))
    with pytest.raises(ArtifactError, match=re.escape(str(path))):
        load(path, "skops")


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["joblib", "pickle"])
def test_nothing_in_a_file_runs_without_the_right_pin(tmp_path: Path, kind: str) -> None:
    proof = tmp_path / "it-ran"
    path = written(tmp_path / "model", pickle.dumps(Touch(proof)))
    with pytest.raises(ArtifactError, match="`sha256:`"):
        load(path, kind, sha256=None)
    with pytest.raises(ArtifactError, match=artifact_sha256(str(path))):
        load(path, kind, sha256="0" * 64)
    assert not proof.exists()
    with pytest.raises(ArtifactError, match="`predict`"):
        load(path, kind)
    assert proof.exists()  # so the file would have run


def test_a_pinned_skops_file_is_verified_too(tmp_path: Path, regression: Any) -> None:
    path = written(tmp_path / "model", saved(regression, "skops"))
    assert load(path, "skops", sha256=artifact_sha256(str(path)).upper()).features == COLUMNS
    with pytest.raises(ArtifactError, match="f" * 64):
        load(path, "skops", sha256="f" * 64)


def test_types_in_a_skops_file_are_trusted_by_the_configuration_only(tmp_path: Path, forest: Any) -> None:
    path = written(tmp_path / "model", saved(forest, "skops"))
    with pytest.raises(ArtifactError, match=f"{TREE}; .*`trusted:`"):
        load(path, "skops")
    assert load(path, "skops", trusted=(TREE,)).features == COLUMNS


def test_a_skops_file_cannot_bring_a_function_along(tmp_path: Path, regression: Any) -> None:
    content = zipped(saved(regression, "skops"), b'"LogisticRegression"', b'"OsSystem"')
    with pytest.raises(ArtifactError, match="OsSystem"):
        load(written(tmp_path / "model", content), "skops")


@pytest.mark.parametrize("kind", ["joblib", "pickle", "skops"])
def test_another_release_of_scikit_learn_is_refused_and_both_are_named(
    tmp_path: Path, regression: Any, kind: str
) -> None:
    import sklearn

    old = other_version(regression, kind, b"0.24.2")
    with pytest.raises(ArtifactError, match=f"0.24.2.*{sklearn.__version__}"):
        load(written(tmp_path / "model", old), kind)


@pytest.mark.parametrize("kind", ["joblib", "pickle", "skops"])
def test_another_bug_fix_release_of_scikit_learn_is_fine(tmp_path: Path, regression: Any, kind: str) -> None:
    import sklearn

    minor = ".".join(sklearn.__version__.split(".")[:2])
    same = other_version(regression, kind, f"{minor}.99".encode())
    assert load(written(tmp_path / "model", same), kind).features == COLUMNS


def test_a_module_that_is_not_installed_is_named(tmp_path: Path) -> None:
    content = b"cnot_installed_anywhere.models\nChurn\n."
    with pytest.raises(ArtifactError, match="'not_installed_anywhere'"):
        load(written(tmp_path / "model", content), "pickle")


def test_a_class_of_the_training_script_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"'MyModel'.*__main__"):
        load(written(tmp_path / "model", b"c__main__\nMyModel\n."), "pickle")


def saved(model: Any, kind: str) -> bytes:
    if kind == "skops":
        return bytes(skops.io.dumps(model))
    buffer = io.BytesIO()
    joblib.dump(model, buffer) if kind == "joblib" else pickle.dump(model, buffer)
    return buffer.getvalue()


def other_version(model: Any, kind: str, version: bytes) -> bytes:
    """The model's file as that release of scikit-learn would have marked it."""
    import sklearn

    if kind == "skops":
        running = sklearn.__version__.encode()
        return zipped(saved(model, kind), b'\\"' + running + b'\\"', b'\\"' + version + b'\\"')
    return saved(Reversioned(model, version.decode()), kind)


class Reversioned:
    """Pickles as a model whose state says another version."""

    def __init__(self, model: Any, version: str) -> None:
        self.model = model
        self.version = version

    def __reduce__(self) -> tuple[Any, ...]:
        state = {**self.model.__getstate__(), "_sklearn_version": self.version}
        return (type(self.model), (), state)


def zipped(content: bytes, old: bytes, new: bytes) -> bytes:
    """A skops file with some text in its schema replaced."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            text = source.read(name)
            if name == "schema.json":
                assert old in text
                text = text.replace(old, new)
            target.writestr(name, text)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["pipe", "zero", "large"])
def test_what_is_no_file_of_bounded_size_is_refused_unread(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(5 << 30)  # it takes no room on the disk
    path = str(tmp_path / name)
    for read in (artifact_sha256, lambda uri: load(uri, "skops")):
        with pytest.raises(ArtifactError) as caught:
            read(path)
        assert str(caught.value).startswith(f"file '{path}' ")


def test_a_sidecar_file_that_is_a_pipe_is_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SignatureError, match="pipe"):
        read_content(str(tmp_path / "pipe"))
    with pytest.raises(BaselineUnreadable, match="pipe"):
        read_baseline(str(tmp_path / "pipe"))


def test_a_sidecar_file_that_would_fill_a_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", LARGEST_BYTES + 1)
    with pytest.raises(SignatureError, match="more than 64 MB"):
        read_content(str(tmp_path / "huge"))
    with pytest.raises(BaselineUnreadable, match="more than 64 MB"):
        read_baseline(str(tmp_path / "huge"))


@pytest.mark.parametrize(
    ("is_hidden", "read"), [(False, "filename"), (True, "filename"), (False, np.array(["filename"]))]
)
def test_a_skops_file_cannot_open_the_files_that_rows_name(
    tmp_path: Path, is_hidden: bool, read: object
) -> None:
    counting = CountVectorizer(analyzer="char").fit(["a", "b"])
    counting.input = read
    model = make_pipeline(counting, LinearRegression().fit([[1, 0], [0, 1]], [1, 2]))
    if is_hidden:  # where no walk over steps and branches comes by
        model = LinearRegression().fit([[1, 0], [0, 1]], [1, 2])
        model.more_ = {"x": [(counting,)]}
    (tmp_path / "secret").write_text("ab")
    skops.io.dump(model, tmp_path / "model.skops")
    artifact = ArtifactConfig.model_validate({"format": "skops", "uri": str(tmp_path / "model.skops")})
    with pytest.raises(ArtifactError, match="opens each file that a row names"):
        load_runtime(artifact, features=("a",) if not is_hidden else ("a", "b"))
    trusted = artifact.model_copy(update={"isolation": "none"})
    assert load_runtime(trusted, features=("a",) if not is_hidden else ("a", "b"))
