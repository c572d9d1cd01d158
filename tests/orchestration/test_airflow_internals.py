"""Names of Airflow that are not public: each is used by one module, and still is what that module expects.

A failure here means that this version of Airflow has changed something that it never promised to keep.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "plugins" / "mlops_plugin"
USED_BY = {
    r"\b_do_render_template_fields\b": "orchestration/operators.py",
    r"airflow\.sdk\.execution_time\.(comms|task_runner)": "orchestration/dags_seen.py",
    r"airflow\.models\b": "orchestration/dag_states.py",
    r"airflow\.api_fastapi\.common": "orchestration/dag_states.py",
    r"airflow\.api_fastapi\.(app|auth|core_api)": "web/access.py",
    r"airflow\.sdk\._shared": "masking.py",
    r"airflow\.sdk\.execution_time\.context": "orchestration/rendering.py",
    r"airflow\.providers\.fab\.auth_manager\.cli_commands": "orchestration/roles.py",
}


@pytest.mark.parametrize("name", USED_BY)
def test_a_private_name_stands_in_one_module(name: str) -> None:
    users = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if re.search(name, path.read_text())
    ]
    assert users == [USED_BY[name]]


def test_airflow_renders_a_mapped_task_by_the_method_that_the_operators_override() -> None:
    from airflow.sdk import BaseOperator

    method = getattr(BaseOperator, "_do_render_template_fields", None)
    assert method is not None, "Airflow no longer has it: orchestration/operators.py renders queries in it"
    expected = ["self", "parent", "template_fields", "context", "jinja_env", "seen_oids"]
    assert list(inspect.signature(method).parameters) == expected, (
        "Airflow calls it with other arguments: change both overrides in orchestration/operators.py"
    )


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("GetDag", {"dag_id"}),
        ("GetDagRun", {"dag_id", "run_id"}),
        ("GetPreviousDagRun", {"dag_id", "logical_date"}),
    ],
)
def test_a_task_can_ask_the_supervisor_for_other_dags(name: str, fields: set[str]) -> None:
    from airflow.sdk.execution_time import comms, task_runner

    message = getattr(comms, name, None)
    assert message is not None, f"Airflow's tasks can no longer send {name}: see orchestration/dags_seen.py"
    assert fields <= set(message.model_fields), f"{name} has other fields: see orchestration/dags_seen.py"
    assert "SUPERVISOR_COMMS" in dir(task_runner) or "SUPERVISOR_COMMS" in task_runner.__annotations__, (
        "tasks talk to their supervisor by another name: see orchestration/dags_seen.py"
    )


@pytest.mark.airflow
def test_the_tables_of_dags_and_runs_have_the_columns_that_the_monitor_reads() -> None:
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.log import Log

    dag = {
        "dag_id",
        "is_paused",
        "is_stale",
        "next_dagrun_data_interval_start",
        "next_dagrun_data_interval_end",
        "next_dagrun_create_after",
    }
    run = {"dag_id", "run_id", "run_type", "state", "conf", "run_after", "start_date", "end_date"}
    assert dag <= set(DagModel.__table__.columns.keys()), "see orchestration/dag_states.py"
    assert run <= set(DagRun.__table__.columns.keys()), "see orchestration/dag_states.py"
    switched = {"dag_id", "dttm", "event", "extra"}
    assert switched <= set(Log.__table__.columns.keys()), "see orchestration/dag_states.py"
    assert callable(getattr(DagModel, "get_team_name", None)), "see team_of in orchestration/dag_states.py"


_QUESTIONS = {
    "is_authorized_dag": {"method", "access_entity", "details", "user"},
    "is_authorized_custom_view": {"method", "resource_name", "user"},
}


@pytest.mark.airflow
@pytest.mark.parametrize("question", _QUESTIONS)
def test_auth_managers_answer_what_the_views_ask(question: str) -> None:
    from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager

    method = getattr(BaseAuthManager, question, None)
    assert method is not None, f"auth managers no longer answer {question}: see web/access.py"
    assert _QUESTIONS[question] <= set(inspect.signature(method).parameters), (
        f"{question} takes other arguments: see web/access.py"
    )


def test_secrets_can_be_masked_outside_of_a_task() -> None:
    try:
        from airflow.sdk._shared.secrets_masker import _secrets_masker, should_hide_value_for_key
    except ImportError:
        pytest.fail("Airflow's secrets masker has moved: see masking.py")
    assert callable(should_hide_value_for_key)
    assert isinstance(_secrets_masker().patterns, set), "masking.py learns what Airflow masks from these"
