"""The cycle collector rests while a model is loaded, and works again afterwards, whatever came of it."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path

import pytest

from mlops_plugin.config.schema import ArtifactConfig
from mlops_plugin.errors import ArtifactError
from mlops_plugin.formats.runtime import artifact_sha256, load_runtime

found: list[bool] = []


class Curious:
    """A model that looks, while it is loaded, whether the collector works."""

    def __setstate__(self, is_sound: bool) -> None:
        found.append(gc.isenabled())
        if not is_sound:
            raise ValueError("broken")

    def __reduce__(self) -> tuple[object, ...]:
        return (Curious, (), self.is_sound)

    def predict(self, rows: object) -> list[int]:
        return [1] * len(rows)  # type: ignore[arg-type]

    is_sound = True


class Broken(Curious):
    is_sound = False


@pytest.mark.parametrize("model", [Curious(), Broken()])
def test_the_collector_rests_while_a_model_is_loaded_and_only_then(tmp_path: Path, model: Curious) -> None:
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps(model))
    artifact = ArtifactConfig(format="pickle", uri=str(path), sha256=artifact_sha256(str(path)))
    found.clear()
    if model.is_sound:
        load_runtime(artifact, features=("a",))
    else:
        with pytest.raises(ArtifactError, match="broken"):
            load_runtime(artifact, features=("a",))
    assert found == [False]
    assert gc.isenabled()
