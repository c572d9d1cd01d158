"""What one user may see: models, dispatches and faults, judged DAG by DAG."""

from __future__ import annotations

import warnings
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from fastapi import HTTPException

from mlops_plugin.errors import BrokenModel, UnknownModel
from mlops_plugin.events.reading import DispatchFilter
from support.event_stories import new_identity
from support.workshop import Workshop

SINK = {"connection": "sink"}
pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def modules() -> tuple[ModuleType, ModuleType, ModuleType]:
    """The modules under test, which load Airflow's API server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Airflow's own imports
        from mlops_plugin.web import access, shared_site, visible
    return access, shared_site, visible


@pytest.fixture
def seen_by(modules: tuple[ModuleType, ModuleType, ModuleType], workshop: Workshop) -> Any:
    """The site for a user who may read these DAGs, and no other that the tests name; `~`: any DAG."""
    access, shared_site, visible = modules
    site_of_request = shared_site.Site(workshop.config_file)

    def seen(*readable: str) -> Any:
        names = ("churn", "wine", "gone", "nosuch", "twin", "~", *readable)
        answers = {("GET", name, False): name in readable for name in names}
        return visible.Visible(site_of_request, access.Rights(None, answers))

    return seen


def test_a_change_of_an_included_file_is_seen(seen_by: Any, workshop: Workshop) -> None:
    """Changed, added, removed; the files of a pattern that is new; a file that is broken and mended."""
    one, more = (workshop.folder / name for name in ("team_one.yaml", "team_more.yaml"))
    entries = {
        name: yaml.safe_dump({"models": {name: workshop.models["churn"] | {"sink": {**SINK, "table": name}}}})
        for name in ("wine", "gone", "twin")
    }
    one.write_text(entries["wine"])
    seen = seen_by("churn", "wine", "gone", "twin")
    assert seen.names == ["churn"]
    workshop.sections["include"] = ["team_*.yaml"]
    workshop.write()
    assert seen.names == ["churn", "wine"]
    one.write_text(entries["gone"] + "# longer")
    assert seen.names == ["churn", "gone"]
    more.write_text(entries["twin"])
    assert seen.names == ["churn", "twin", "gone"]
    more.write_text("- no models")
    assert seen.names == ["churn", "gone"]
    more.unlink()
    one.unlink()
    assert seen.names == ["churn"]
    one.write_text(entries["twin"])
    assert seen.names == ["churn", "twin"]


def test_only_models_whose_dags_may_be_read_are_listed(seen_by: Any, workshop: Workshop) -> None:
    workshop.add_model("wine")
    assert list(seen_by("churn", "wine").models) == ["churn", "wine"]
    assert list(seen_by("wine").models) == ["wine"]
    assert seen_by("wine").names == ["wine"]
    assert seen_by().names == []


def test_forbidden_and_unknown_models_have_the_same_error(seen_by: Any) -> None:
    errors = []
    for name in ("churn", "nosuch"):
        with pytest.raises(UnknownModel) as caught:
            seen_by("wine").model(name)
        errors.append(str(caught.value).replace(name, "NAME"))
    assert errors[0] == errors[1]
    assert "wine" not in errors[0]


def test_a_fault_that_names_a_hidden_model_is_hidden(seen_by: Any, workshop: Workshop) -> None:
    workshop.add_model("twin", sink={"table": "churn_predictions"})
    with pytest.raises(BrokenModel) as whole:
        seen_by("churn", "twin").model("churn")
    with pytest.raises(BrokenModel) as hidden:
        seen_by("churn").model("churn")
    assert "twin" in str(whole.value)
    assert "twin" not in str(hidden.value)
    assert [problem.line for problem in hidden.value.problems] == [
        problem.line for problem in whole.value.problems
    ]
    assert "twin" not in str(seen_by("churn").broken)


def test_a_filter_is_restricted_unless_any_model_may_be_read(seen_by: Any, workshop: Workshop) -> None:
    workshop.add_model("wine")
    with workshop.deployment.event_store() as store:
        for name in ("churn", "wine", "gone"):
            store.begin(new_identity(name))
    wanted = DispatchFilter(state="running")
    assert seen_by("churn", "wine", "gone", "~").passing(wanted) == wanted
    assert seen_by("churn", "wine").passing(wanted).models == ("churn", "wine")
    assert seen_by("gone").passing(wanted).models == ("gone",)
    assert seen_by().passing(wanted).models == ()


def test_a_model_whose_first_dispatch_was_a_moment_ago_is_hidden(seen_by: Any, workshop: Workshop) -> None:
    seen, wanted = seen_by("churn", "wine"), DispatchFilter(state="running")
    assert seen.passing(wanted).models == ("churn",)
    with workshop.deployment.event_store() as store:
        store.begin(new_identity("gone"))  # a model of another configuration
        assert store.page(seen.passing(wanted), limit=10) == []


def test_a_filter_of_one_model_passes_nothing_if_it_is_hidden(seen_by: Any) -> None:
    wanted = DispatchFilter(model="churn")
    assert seen_by("churn").passing(wanted) == wanted
    assert seen_by("wine").passing(wanted).models == ()
    assert seen_by("wine").passing(DispatchFilter(model="nosuch")).models == ()


def test_as_much_is_asked_about_an_unknown_dispatch_as_about_a_forbidden_one(
    modules: tuple[ModuleType, ModuleType, ModuleType], workshop: Workshop
) -> None:
    """The id of a run can be computed: else the time of a 404 would tell whether the run was there."""
    _, shared_site, visible = modules
    known = new_identity("gone")
    with workshop.deployment.event_store() as store:
        store.begin(known)
    questions: list[list[str]] = []
    for dispatch_id in (known.dispatch_id, "unknown"):
        asked: list[str] = []
        rights = SimpleNamespace(may_read=asked.append, may_read_all=lambda asked=asked: asked.append("~"))
        with pytest.raises(HTTPException):
            visible.Visible(shared_site.Site(workshop.config_file), rights).dispatch(dispatch_id)
        questions.append(asked)
    assert questions == [["gone"], ["~"]]
