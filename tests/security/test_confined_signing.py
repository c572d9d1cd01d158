"""`mlops sign` runs the code of a model's file where `mlops check` does: in a confined process of its own."""

from __future__ import annotations

import json
import pickle
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from mlops_plugin.cli import main
from mlops_plugin.errors import SignatureError
from mlops_plugin.pipeline.signing import sign_with_query
from support import isolated_models as models
from support.forging_models import SIGNATURES, ForgingSignature
from support.workshop import FEATURES, Workshop

pytestmark = pytest.mark.slow  # such a model has a process of its own


def _add(workshop: Workshop, model: object, isolation: str | None = None) -> None:
    content = pickle.dumps(model)
    (workshop.folder / "churn.pickle").write_bytes(content)
    digest = sha256(content).hexdigest()
    artifact = {"format": "pickle", "uri": "churn.pickle", "sha256": digest, "isolation": isolation}
    workshop.add_model("churn", model=artifact, features=list(FEATURES))


def _signed(workshop: Workshop, *arguments: str) -> dict[str, Any]:
    assert main(["sign", "churn", *arguments]) == 0
    file = workshop.folder / "churn.pickle.signature.json"
    content: dict[str, Any] = json.loads(file.read_bytes())
    file.unlink()
    for name in ("made_at", "libraries"):  # what else this process has loaded is no part of the model
        content.pop(name)
    (content["baseline"] or {}).pop("made_at", None)
    return content


@pytest.mark.parametrize(("isolation", "is_here"), [(None, False), ("none", True)])
def test_a_pickled_model_is_not_loaded_in_the_process_of_the_command(
    workshop: Workshop, isolation: str | None, is_here: bool
) -> None:
    _add(workshop, models.Placed(), isolation)
    models.LOADED_IN_THIS_PROCESS.clear()
    _signed(workshop)
    assert bool(models.LOADED_IN_THIS_PROCESS) is is_here


def test_a_signature_is_the_same_wherever_the_model_runs(workshop: Workshop) -> None:
    rows = pd.DataFrame(np.random.default_rng(1).normal(size=(60, 3)), columns=list(FEATURES))
    rows.loc[0, "a"] = np.nan
    rows.assign(word=["x", *[None] * 59]).to_parquet(workshop.folder / "rows.parquet")
    workshop.add_rows(60)
    model = LogisticRegression().fit(rows.fillna(0), rows["b"] > 0)
    found: list[list[dict[str, Any]]] = []
    for isolation in ("process", "none"):
        _add(workshop, model, isolation)
        found.append([_signed(workshop), _signed(workshop, "--rows", str(workshop.folder / "rows.parquet"))])
    assert found[0] == found[1]
    # The model refuses the row without `a`.
    assert [len(content["golden"]["rows"]) for content in found[0]] == [50, 49]


@pytest.mark.parametrize("forgery", SIGNATURES)
def test_a_forged_signature_is_not_written(workshop: Workshop, forgery: str) -> None:
    _add(workshop, ForgingSignature(forgery))
    with pytest.raises(SignatureError):
        sign_with_query(workshop.model(), workshop.deployment, workshop.model().source.query, synthetic=False)
    assert not (workshop.folder / "churn.pickle.signature.json").exists()
