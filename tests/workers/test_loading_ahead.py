"""A model without a process of its own is loaded while the first rows are read."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mlops_plugin.errors import ArtifactError
from mlops_plugin.workers.isolation import StepModels
from support.workshop import Workshop


def test_model_is_loaded_before_it_is_asked_for(workshop: Workshop) -> None:
    model = workshop.model()
    assert not model.model.is_isolated
    models = StepModels(must_be_confined=False)
    models.load_ahead(model)
    for thread in threading.enumerate():
        if thread.name == "load model":
            thread.join()
    Path(model.model.uri).unlink()
    assert models.load(model).features == ("a", "b", "c")
    with pytest.raises(ArtifactError):  # whoever asks again gets what the file is then
        models.load(model)
    models.close()


def test_what_is_wrong_with_a_model_is_raised_where_it_is_wanted(workshop: Workshop) -> None:
    model = workshop.model()
    Path(model.model.uri).write_bytes(b"no model")
    models = StepModels(must_be_confined=False)
    models.load_ahead(model)
    with pytest.raises(ArtifactError):
        models.load(model)
    models.close()


def test_model_that_nobody_wants_any_more_is_left(workshop: Workshop) -> None:
    models = StepModels(must_be_confined=False)
    models.load_ahead(workshop.model())
    models.close()
    assert [each.name for each in threading.enumerate() if each.name == "load model"] == []
