"""A model in a worker reads what its signature says, also if both lie in remote storage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from mlops_plugin.config.schema import ServingConfig
from mlops_plugin.errors import GoldenRowMismatch
from mlops_plugin.formats.signature.signature_writer import write_signature
from mlops_plugin.workers.pool import ModelPool
from support.workshop import FEATURES, Workshop

ROW = pa.RecordBatch.from_pylist([{"a": 1.0, "b": 0.5, "c": 0.25}])


@pytest.fixture
def pool() -> Iterator[ModelPool]:
    pool = ModelPool(ServingConfig())
    yield pool
    pool.close()


def _write_signed_model(workshop: Workshop) -> Path:
    rows = pd.DataFrame([[n / 3, -n / 7, n * 0.1] for n in range(-20, 20)], columns=list(FEATURES))
    model = LogisticRegression().fit(rows, [n > 0 for n in range(-20, 20)])
    path = workshop.folder / "signed.skops"
    skops.io.dump(model, path)
    write_signature(model, rows, path)
    return path


def _falsify(signature: bytes) -> bytes:
    content = json.loads(signature)
    content["golden"]["answers"]["predict_proba"].reverse()
    return json.dumps(content).encode()


def test_a_changed_signature_loads_the_model_again(pool: ModelPool, workshop: Workshop) -> None:
    path = _write_signed_model(workshop)
    workshop.add_model("signed", model={"format": "skops", "uri": path.name}, features=list(FEATURES))
    with pool.runtime(workshop.model("signed")) as process:
        process.predict(ROW)
    sidecar = Path(f"{path}.signature.json")
    sidecar.write_bytes(_falsify(sidecar.read_bytes()))
    with pytest.raises(GoldenRowMismatch), pool.runtime(workshop.model("signed")):
        pass


def test_a_remote_artifact_comes_with_its_signature(pool: ModelPool, workshop: Workshop) -> None:
    path = _write_signed_model(workshop)
    storage = fsspec.filesystem("memory")
    storage.pipe("/models/signed.skops", path.read_bytes())
    storage.pipe("/models/signed.skops.signature.json", _falsify(Path(f"{path}.signature.json").read_bytes()))
    model = {"format": "skops", "uri": "memory://models/signed.skops"}
    workshop.add_model("signed", model=model, features=list(FEATURES))
    with pytest.raises(GoldenRowMismatch), pool.runtime(workshop.model("signed")):
        pass
    storage.rm("/models/signed.skops.signature.json")
    with pool.runtime(workshop.model("signed")) as process:
        assert process.predict(ROW).num_rows == 1
