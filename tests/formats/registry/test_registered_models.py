"""A dispatch of `models:/churn@champion`: one version for all its steps and tries, on its record and page."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from mlops_plugin.cli import main
from mlops_plugin.dag_factory import build_dags
from mlops_plugin.errors import (
    ArtifactChanged,
    GoldenRowMismatch,
    RegistryError,
    SignatureError,
    StagingOutdated,
)
from mlops_plugin.events.details.step_reports import LogReport, RegisteredVersion
from mlops_plugin.events.records import Step
from mlops_plugin.formats.mlflow_models.model_files import model_sha256
from mlops_plugin.formats.registry.model_cache import FOLDER
from mlops_plugin.pipeline.dispatch import STEPS
from mlops_plugin.pipeline.recording.step_record import Attempt
from mlops_plugin.pipeline.runner import run_step
from mlops_plugin.serving.run import Showroom
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.workers.pool import ModelPool
from support.mlflow_server import FOLDERS, TOKEN, MlflowStandIn, mlflow_stand_in, send
from support.workshop import Workshop

__all__ = ["mlflow_stand_in"]
ALIAS = "mlflow/registered-models/alias"
ENTRY = {"format": "mlflow", "uri": "models:/churn@champion", "connection": "mlflow", "isolation": "none"}
_CUSTOMERS = (
    "CREATE TABLE customers (id INTEGER PRIMARY KEY, a REAL, b REAL, c REAL)",
    "INSERT INTO customers VALUES (1, 0.5, 1, 2), (2, -1, 0.5, 1)",
)
FIRST, SECOND = FOLDERS / "skops" / "model", FOLDERS / "catboost" / "model"


@pytest.fixture
def server(
    mlflow_stand_in: MlflowStandIn, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> MlflowStandIn:
    """The registry of the workshop's model; its second version is another model of the same columns."""
    workshop.connections["mlflow"] = mlflow_stand_in.airflow_uri
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW", mlflow_stand_in.airflow_uri)
    mlflow_stand_in.versions["2"] = SECOND
    workshop.add_model("churn", model=ENTRY)
    return mlflow_stand_in


def hashes(workshop: Workshop) -> set[str]:
    return {row["artifact_sha256"] for row in workshop.predictions()}


def logged(workshop: Workshop, dispatch_id: str) -> LogReport:
    (report,) = (e.details for e in workshop.events(dispatch_id) if isinstance(e.details, LogReport))
    return report


def signature_of(workshop: Workshop, version: str) -> Path:
    return workshop.folder / "signatures" / "mlflow" / f"churn-{version}.signature.json"


def sha256_of_file(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def forget_files(workshop: Workshop) -> None:
    """As on another machine."""
    shutil.rmtree(workshop.home / FOLDER)


def test_name_version_alias_and_run_stand_on_the_dispatch(server: MlflowStandIn, workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    workshop.run(dispatch)
    assert hashes(workshop) == {model_sha256(str(FIRST))}
    assert logged(workshop, dispatch.id).registered == RegisteredVersion("churn", "1", "champion", "run1")
    record = workshop.record(dispatch.id)
    assert record.artifact_uri == "models:/churn/1"
    assert record.artifact_sha256 == model_sha256(str(FIRST))
    assert record.config_sha256 == workshop.model().config_hash()


def test_an_alias_that_moves_between_two_tries_changes_nothing(
    server: MlflowStandIn, workshop: Workshop
) -> None:
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect")
    server.aliases["champion"] = "2"
    workshop.run_steps(dispatch, "collect", "log")
    forget_files(workshop)
    workshop.run_steps(dispatch, "infer", "persist")
    assert server.count(ALIAS) == 1
    assert hashes(workshop) == {model_sha256(str(FIRST))}
    workshop.run(workshop.dispatch())
    assert server.count(ALIAS) == 2
    assert hashes(workshop) == {model_sha256(str(SECOND))}


@pytest.mark.parametrize("cleared", STEPS)
def test_a_cleared_run_goes_on_with_the_version_that_its_step_asks_for(
    server: MlflowStandIn, workshop: Workshop, cleared: Step
) -> None:
    dispatch, query = workshop.dispatch(), workshop.model().source.query
    workshop.run_steps(dispatch, "collect", "log", "infer")
    server.aliases["champion"] = "2"
    for step in STEPS[STEPS.index(cleared) :]:
        for number in (1, 2):  # a retry does not ask again
            attempt = Attempt(number, clears=1)
            run_step(step, dispatch, workshop.deployment, query=lambda: query, attempt=attempt)
        server.aliases["champion"] = "1"
    expected = SECOND if cleared in ("collect", "log") else FIRST
    assert hashes(workshop) == {model_sha256(str(expected))}


def test_a_run_from_before_an_upgrade_can_be_cleared(server: MlflowStandIn, workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    of_another_release = {"uri": workshop.model().model.uri, "version": "1"}
    workshop.deployment.staging.shelf("churn", dispatch.id).put_note("version", of_another_release)
    with pytest.raises(StagingOutdated, match="clear 'collect'"):
        workshop.run_steps(dispatch, "log")
    workshop.run_steps(dispatch, *STEPS)
    assert hashes(workshop) == {model_sha256(str(FIRST))}


def test_a_first_try_that_fails_after_it_has_asked_is_repeated_with_its_version(
    server: MlflowStandIn, workshop: Workshop
) -> None:
    workshop.add_model("churn", model=ENTRY, source={"query": "SELECT id, a, b, c FROM later"})
    dispatch = workshop.dispatch()
    with pytest.raises(Exception, match="later"):
        workshop.run_steps(dispatch, "collect")
    server.aliases["champion"] = "2"
    workshop.add_rows(3, "later")
    workshop.run_steps(dispatch, "collect", "log")
    registered = logged(workshop, dispatch.id).registered
    assert registered is not None
    assert registered.version == "1"


def test_a_server_that_is_back_for_the_retry_is_asked_then(server: MlflowStandIn, workshop: Workshop) -> None:
    dispatch = workshop.dispatch()
    server.answers[ALIAS] = lambda request: send(request, 503, f"down {TOKEN}".encode())
    with pytest.raises(RegistryError):
        workshop.run_steps(dispatch, "collect")
    errors = {event.error for event in workshop.events(dispatch.id) if event.kind == "failed"}
    assert ["503" in str(error) for error in errors] == [True]
    del server.answers[ALIAS]
    workshop.run_steps(dispatch, "collect", "log", "infer", "persist")
    assert TOKEN not in json.dumps([repr(event) for event in workshop.events(dispatch.id)])


def test_files_that_change_under_a_version_are_refused(
    server: MlflowStandIn, workshop: Workshop, tmp_path: Path
) -> None:
    server.versions["1"] = Path(shutil.copytree(FIRST, tmp_path / "first"))
    dispatch = workshop.dispatch()
    workshop.run_steps(dispatch, "collect", "log")
    (server.versions["1"] / "conda.yaml").write_text("name: other\n")
    forget_files(workshop)
    with pytest.raises(ArtifactChanged):
        workshop.run_steps(dispatch, "infer")


def test_an_alias_moves_among_pinned_versions_of_a_pickled_model_only(
    server: MlflowStandIn, workshop: Workshop, tmp_path: Path
) -> None:
    pickled = FOLDERS / "lightgbm_pickled" / "model"
    other = Path(shutil.copytree(pickled, tmp_path / "other"))
    (other / "conda.yaml").write_text("name: other\n")
    server.versions |= {"3": pickled, "4": other, "5": Path(shutil.copytree(pickled, tmp_path / "fifth"))}
    (server.versions["5"] / "model.pkl").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    pins = [model_sha256(str(pickled)), model_sha256(str(other))]
    workshop.add_model("churn", model={**ENTRY, "sha256": pins})
    for version, pin in (("3", pins[0]), ("4", pins[1])):
        server.aliases["champion"] = version
        workshop.run(workshop.dispatch())
        assert hashes(workshop) == {pin}
    server.aliases["champion"] = "5"
    with pytest.raises(ArtifactChanged):
        workshop.run(workshop.dispatch())
    assert hashes(workshop) == {pins[1]}


def test_partitions_share_what_plan_has_asked(server: MlflowStandIn, workshop: Workshop) -> None:
    partitions = {"column": "id", "count": 2}
    query = "SELECT id, a, b, c FROM customers"
    workshop.add_model("churn", model=ENTRY, source={"query": query, "partitions": partitions})
    workshop.run(workshop.dispatch())
    assert server.count(ALIAS) == 1
    assert len(workshop.predictions()) == 5


def test_rows_that_the_same_version_has_predicted_are_left_out(
    server: MlflowStandIn, workshop: Workshop
) -> None:
    workshop.add_model("churn", model=ENTRY, source={"connection": "sink", "skip_predicted": True})
    workshop.in_sink(*_CUSTOMERS)
    workshop.run(workshop.dispatch())
    second, third = workshop.dispatch(), workshop.dispatch()
    workshop.run(second)
    server.aliases["champion"] = "2"
    workshop.run(third)
    assert [workshop.record(each.id).rows_collected for each in (second, third)] == [0, 2]


def test_reading_the_configuration_and_making_dags_asks_nobody(
    server: MlflowStandIn, workshop: Workshop
) -> None:
    assert workshop.model().model.is_registered
    assert main(["check", "churn"]) == 0
    assert "churn" in build_dags(workshop.config_file)
    assert server.asked == []


def test_a_models_folder_may_be_shared_or_in_a_file_uri(server: MlflowStandIn, workshop: Workshop) -> None:
    server.versions["2"] = SECOND
    for version, source in (("1", FIRST.as_uri()), ("2", str(SECOND))):
        server.sources[version] = source
        workshop.add_model("churn", model={**ENTRY, "uri": f"models:/churn/{version}"})
        dispatch = workshop.dispatch()
        workshop.run(dispatch)
        assert hashes(workshop) == {model_sha256(source.removeprefix("file://"))}
        assert logged(workshop, dispatch.id).registered == RegisteredVersion(
            "churn", version, None, f"run{version}"
        )
    assert server.count("mlflow-artifacts") == 0


@pytest.mark.slow
def test_init_check_and_dispatch_take_a_version_of_the_registry(
    server: MlflowStandIn, workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    server.versions["3"] = FOLDERS / "lightgbm_pickled" / "model"
    options = ["--registry", "mlflow", "--connection", "source", "--sink", "sink", "--yes"]
    wanted = ["init", "shop", "--model", "models:/churn/3", *options]
    assert main([*wanted, "--query", "SELECT id, a, b, c FROM customers"]) == 0
    entry: Any = workshop.model("shop").model
    assert (entry.uri, entry.sha256) == ("models:/churn/3", model_sha256(str(server.versions["3"])))
    assert main(["check", "--connect", "shop"]) == 0
    assert "models:/churn/3" in capsys.readouterr().out
    assert main(["dispatch", "shop"]) == 0
    assert len(workshop.predictions("shop_predictions")) == 5
    assert main(["sign", "shop"]) == 0
    assert str(signature_of(workshop, "3")) in capsys.readouterr().out
    dispatch = workshop.dispatch("shop")
    workshop.run(dispatch)
    assert logged(workshop, dispatch.id).signature_sha256 == sha256_of_file(signature_of(workshop, "3"))


def test_a_version_is_held_to_its_own_signature_and_to_no_others(
    server: MlflowStandIn, workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    def signed_by() -> str | None:
        dispatch = workshop.dispatch()
        workshop.run(dispatch)
        return logged(workshop, dispatch.id).signature_sha256

    def warnings() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]

    assert main(["sign", "churn"]) == 0
    first = sha256_of_file(signature_of(workshop, "1"))
    assert signed_by() == first
    assert warnings() == []
    server.aliases["champion"] = "2"
    assert signed_by() is None
    assert ["this version has no signature" in each for each in warnings()] == [True]
    assert main(["sign", "churn"]) == 0
    assert signed_by() == sha256_of_file(signature_of(workshop, "2")) != first
    server.aliases["champion"] = "1"
    assert signed_by() == first
    shutil.copy(signature_of(workshop, "2"), signature_of(workshop, "1"))
    with pytest.raises(SignatureError, match="made for another artifact"):
        signed_by()


def test_a_changed_answer_of_a_signed_version_ends_the_dispatch(
    server: MlflowStandIn, workshop: Workshop
) -> None:
    assert main(["sign", "churn"]) == 0
    path = signature_of(workshop, "1")
    content = json.loads(path.read_text())
    content["golden"]["answers"]["predict"][0] = ["another"]
    path.write_text(json.dumps(content))
    with pytest.raises(GoldenRowMismatch):
        workshop.run(workshop.dispatch())
    assert main(["check", "--connect", "churn"]) == 1
    pool = ModelPool(workshop.loaded.config.serving)
    with contextlib.closing(pool), pytest.raises(GoldenRowMismatch), pool.runtime(workshop.model()):
        pass


def test_the_signature_of_a_version_may_be_pinned(server: MlflowStandIn, workshop: Workshop) -> None:
    entry = {**ENTRY, "uri": "models:/churn/1"}
    workshop.add_model("churn", model={**entry, "signature_sha256": "0" * 64})
    with pytest.raises(SignatureError, match="does not exist"):
        workshop.run(workshop.dispatch())
    assert main(["sign", "churn"]) == 0
    with pytest.raises(ArtifactChanged, match="signature_sha256"):
        workshop.run(workshop.dispatch())
    found = sha256_of_file(signature_of(workshop, "1"))
    workshop.add_model("churn", model={**entry, "signature_sha256": found})
    workshop.run(workshop.dispatch())


def test_files_that_are_not_the_pinned_ones_are_not_signed(server: MlflowStandIn, workshop: Workshop) -> None:
    workshop.add_model("churn", model={**ENTRY, "sha256": "0" * 64})
    assert main(["sign", "churn"]) == 1
    assert not signature_of(workshop, "1").exists()


def test_a_showroom_run_uses_a_version_and_records_it(
    server: MlflowStandIn, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_plugin.workers.pool._VERSION_FRESH_S", 3600.0)  # however long a run takes
    pool = ModelPool(workshop.loaded.config.serving)
    try:
        with workshop.deployment.event_store() as store:
            showroom = Showroom(workshop.deployment, store, pool)
            shown = showroom.run(workshop.model(), Wanted(keys=[(2,)]), "ada")
            again = showroom.run(workshop.model(), Wanted(keys=[(2,)]), "ada")
    finally:
        pool.close()
    assert shown.artifact_sha256 == again.artifact_sha256 == model_sha256(str(FIRST))
    assert server.count(ALIAS) == 1
    assert logged(workshop, shown.dispatch_id).registered == RegisteredVersion(
        "churn", "1", "champion", "run1"
    )
