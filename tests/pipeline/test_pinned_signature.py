"""The signature that was logged is the one by which the model predicts, or nothing is predicted."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mlops_plugin.errors import ArtifactChanged
from mlops_plugin.events.details.step_reports import LogReport
from mlops_plugin.formats.signature.signature_writer import write_signature
from support.workshop import Workshop

ROWS = [[n / 3, -n / 7, n * 0.1] for n in range(-20, 20)]


def sidecar(workshop: Workshop) -> Path:
    return workshop.folder / "churn.skops.signature.json"


def sign(workshop: Workshop) -> str:
    rows = workshop.frame([[float(value) for value in row] for row in ROWS])
    return write_signature(workshop.classifier, rows, workshop.folder / "churn.skops")


def change(workshop: Workshop) -> None:
    """The same model sees a NULL otherwise from now on; no golden row has one, so none tells."""
    content = json.loads(sidecar(workshop).read_bytes())
    content["input"]["columns"][0]["missing"] = "nat"
    sidecar(workshop).write_text(json.dumps(content))


@pytest.mark.parametrize("happens", ["it appears", "it changes", "it goes"])
def test_a_signature_that_is_not_the_logged_one_predicts_nothing(workshop: Workshop, happens: str) -> None:
    if happens != "it appears":
        sign(workshop)
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log")
    if happens == "it appears":
        sign(workshop)
    elif happens == "it changes":
        change(workshop)
    else:
        sidecar(workshop).unlink()
    with pytest.raises(ArtifactChanged, match="signature"):
        workshop.run_steps(dispatch, "infer")
    workshop.run_steps(dispatch, "log", "infer", "persist")
    assert len(workshop.predictions()) == 5


def test_the_signature_is_on_record(workshop: Workshop) -> None:
    sha256 = sign(workshop)
    assert sha256 == hashlib.sha256(sidecar(workshop).read_bytes()).hexdigest()
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    (report,) = [e.details for e in workshop.events(dispatch.id) if isinstance(e.details, LogReport)]
    assert report.signature_sha256 == sha256


def test_a_dispatch_in_flight_of_an_earlier_version_ends(workshop: Workshop) -> None:
    sign(workshop)
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log")
    shelf = workshop.deployment.staging.shelf("churn", dispatch.id)
    note = shelf.note("log")
    del note["judge"]
    shelf.put_note("log", note)
    workshop.run_steps(dispatch, "infer", "persist")
    assert len(workshop.predictions()) == 5
