"""A model's entry in config.yaml as the DAG that Airflow sees."""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from airflow.sdk import Asset, CronDataIntervalTimetable, DeltaDataIntervalTimetable
from lazy_object_proxy import Proxy

from mlops_plugin.errors import ConfigError, TemplateError, TemplateMistake
from mlops_plugin.orchestration.dag_factory import build_dag, build_dags, raise_broken_models
from mlops_plugin.orchestration.data_intervals import interval_at
from mlops_plugin.orchestration.operators import dispatch_of_run
from mlops_plugin.orchestration.rendering import render
from support.workshop import Workshop

WINE = {"connection": "sink", "table": "wine_predictions"}
NOON = datetime(2026, 3, 1, 12, 34, tzinfo=UTC)


def dag_of(workshop: Workshop, **changes: Any) -> Any:
    workshop.add_model("churn", **changes)
    return build_dags(workshop.config_file)["churn"]


def test_four_tasks_run_in_order(workshop: Workshop) -> None:
    dag = dag_of(workshop)
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == {
        "collect": {"log"},
        "log": {"infer"},
        "infer": {"persist"},
        "persist": set(),
    }


def test_steps_that_run_together_are_one_task(workshop: Workshop) -> None:
    dag = dag_of(workshop, execution="together", retries=4)
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == {"dispatch": set()}
    (task,) = dag.tasks
    assert (task.retries, task.template_fields) == (4, ("query",))
    assert [asset.name for asset in task.outlets] == ["churn.predictions"]


def test_entry_reaches_the_dag(workshop: Workshop) -> None:
    dag = dag_of(
        workshop,
        description="Who leaves?",
        docs="Read **this**.",
        tags=["sales"],
        owner="ann",
        pool="models",
        retries=3,
        retry_delay="20s",
        max_retry_delay="2m",
        task_timeout="5m",
        dispatch_timeout="1h",
        max_active_runs=2,
        start_date="2026-01-01",
        catchup=True,
        schedule="@daily",
    )
    collect = dag.get_task("collect")
    assert (dag.description, dag.max_active_runs, dag.catchup) == ("Who leaves?", 2, True)
    assert dag.tags == {"mlops", "sales"}
    assert dag.start_date == datetime(2026, 1, 1, tzinfo=UTC)
    assert dag.dagrun_timeout == timedelta(hours=1)
    assert "Who leaves?" in dag.doc_md
    assert "Read **this**." in dag.doc_md
    assert (collect.owner, collect.pool, collect.retries) == ("ann", "models", 3)
    assert (collect.retry_delay, collect.max_retry_delay) == (timedelta(seconds=20), timedelta(minutes=2))
    assert collect.retry_exponential_backoff == 2
    assert collect.execution_timeout == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("schedule", "timetable"),
    [
        ("*/5 * * * *", CronDataIntervalTimetable("*/5 * * * *", "UTC")),
        ("@hourly", CronDataIntervalTimetable("@hourly", "UTC")),
        ("1h30m", DeltaDataIntervalTimetable(timedelta(minutes=90))),
    ],
)
def test_schedule_has_intervals(workshop: Workshop, schedule: str, timetable: object) -> None:
    assert dag_of(workshop, schedule=schedule).timetable == timetable


def test_airflow_decides_whether_a_new_dag_is_paused(workshop: Workshop) -> None:
    dag = build_dag(workshop.model(), workshop.loaded)
    assert dag.is_paused_upon_creation is None


def test_schedule_on_assets_names_them(workshop: Workshop) -> None:
    dag = dag_of(workshop, schedule=["other.predictions", "weather"])
    assert list(dag.timetable.asset_condition.objects) == [
        Asset.ref(name="other.predictions"),
        Asset.ref(name="weather"),
    ]


def test_persist_announces_the_predictions_table(workshop: Workshop) -> None:
    (asset,) = dag_of(workshop).get_task("persist").outlets
    assert asset.name == "churn.predictions"
    assert asset.uri == "mlops://sink/churn_predictions/churn"


def test_trigger_form_offers_limits_and_dry_run_and_no_sql(workshop: Workshop) -> None:
    params = dag_of(workshop).params
    assert set(params) == {"row_limit", "dry_run", "quarantined"}
    assert params.dump() == {"row_limit": None, "dry_run": False, "quarantined": False}


def test_query_is_the_only_template(workshop: Workshop) -> None:
    dag = dag_of(workshop)
    assert {task.task_id: list(task.template_fields) for task in dag.tasks if task.template_fields} == {
        "collect": ["query"]
    }


def test_broken_models_are_raised_apart_from_the_sound_ones(workshop: Workshop) -> None:
    workshop.add_model("ill", schedule="often")
    workshop.add_model("sick", retries=-1)
    assert set(build_dags(workshop.config_file)) == {"churn"}
    with pytest.raises(ConfigError) as raised:
        raise_broken_models(workshop.config_file)
    assert {problem.path.split(".")[1] for problem in raised.value.problems} == {"ill", "sick"}


def test_a_broken_included_file_is_raised_apart_from_the_sound_models(workshop: Workshop) -> None:
    workshop.sections["include"] = ["teams/*.yaml", "more.yaml"]
    workshop.write()
    teams = workshop.folder / "teams"
    teams.mkdir()
    entry = yaml.safe_dump({"models": {"wine": workshop.models["churn"] | {"sink": WINE}}})
    (teams / "a.yaml").write_text(entry)
    (teams / "b.yaml").write_text("models:\n  beer: {}\ndefaults: {}\n")
    assert set(build_dags(workshop.config_file)) == {"churn", "wine"}
    with pytest.raises(ConfigError) as raised:
        raise_broken_models(workshop.config_file)
    found = [(Path(problem.file).name, problem.line) for problem in raised.value.problems]
    assert found[:2] == [("config.yaml", 9), ("b.yaml", 3)]


def test_starting_task_of_an_included_file_builds_its_own_dag(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.sections["include"] = ["team.yaml"]
    workshop.write()
    entry = yaml.safe_dump({"models": {"wine": workshop.models["churn"] | {"sink": WINE}}})
    (workshop.folder / "team.yaml").write_text(entry)
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "wine")
    assert set(build_dags(workshop.config_file)) == {"wine"}


def test_no_broken_model_raises_nothing(workshop: Workshop) -> None:
    raise_broken_models(workshop.config_file)


def test_starting_task_builds_its_own_dag_only(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.add_model("other")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "other")  # what Airflow's task runner sets
    assert set(build_dags(workshop.config_file)) == {"other"}


@pytest.mark.parametrize(
    ("schedule", "start", "end"),
    [
        ("@hourly", datetime(2026, 3, 1, 11, tzinfo=UTC), datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("@daily", datetime(2026, 2, 28, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
        ("15m", NOON - timedelta(minutes=15), NOON),
        (None, NOON, NOON),
        (["x"], NOON, NOON),
    ],
)
def test_interval_of_a_run_without_one(
    workshop: Workshop, schedule: Any, start: datetime, end: datetime
) -> None:
    workshop.add_model("churn", schedule=schedule)
    assert interval_at(workshop.model(), NOON) == (start, end)


def test_query_renders_as_in_airflow(workshop: Workshop) -> None:
    workshop.add_model(
        "churn",
        schedule="@daily",
        source={
            "query": "SELECT id, a, b, c FROM customers WHERE t >= '{{ data_interval_start }}' "
            "AND d < '{{ ds }}' AND e < '{{ macros.ds_add(ds, -7) }}' LIMIT {{ params.row_limit }}"
        },
    )
    rendered = render(workshop.model().source.query, workshop.model(), moment=NOON, row_limit=9)
    assert rendered == (
        "SELECT id, a, b, c FROM customers WHERE t >= '2026-02-28 00:00:00' AND d < '2026-03-01' "
        "AND e < '2026-02-22' LIMIT 9"
    )


@pytest.mark.parametrize("zone", ["UTC", "America/Sao_Paulo"])
@pytest.mark.parametrize("logical_date", [NOON, None])
def test_a_dag_run_renders_as_the_terminal_does(
    workshop: Workshop, zone: str, logical_date: datetime | None
) -> None:
    query = (
        "SELECT '{{ data_interval_start }}', '{{ data_interval_end.date() }}', '{{ ds }}', '{{ ts }}', "
        "'{{ logical_date }}', '{{ logical_date.subtract(days=1) | ds_nodash }}', '{{ ts_nodash }}'"
    )
    workshop.add_model("churn", schedule="@daily", timezone=zone, source={"query": query})
    model = workshop.model()
    interval = interval_at(model, NOON)
    # Airflow's context always has `var` and `conn`.
    context: dict[str, Any] = {
        "dag_run": SimpleNamespace(run_after=NOON),
        "params": {},
        "var": {},
        "conn": {},
    }
    if logical_date is not None:
        dates = {"data_interval_start": interval[0], "data_interval_end": interval[1]}
        context |= {"logical_date": logical_date, **dates}
    task: Any = dag_of(workshop, schedule="@daily", timezone=zone, source={"query": query}).get_task(
        "collect"
    )
    task.render_template_fields(context)
    assert task.query_source()() == render(query, model, moment=NOON, interval=interval)
    assert f"'{interval[0].astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}'" in task.query


def test_times_of_earlier_runs_are_local_too(workshop: Workshop) -> None:
    query = "SELECT '{{ prev_data_interval_end_success }}', '{{ prev_start_date_success.date() }}'"
    zone = {"schedule": "@daily", "timezone": "America/Sao_Paulo", "source": {"query": query}}
    task: Any = dag_of(workshop, **zone).get_task("collect")
    earlier = Proxy(lambda: datetime(2026, 2, 28, 1, tzinfo=UTC))
    dates = dict.fromkeys(("prev_data_interval_end_success", "prev_start_date_success"), earlier)
    run = SimpleNamespace(run_after=NOON)
    context: dict[str, Any] = {"dag_run": run, "params": {}, "var": {}, "conn": {}, **dates}
    for _ in range(2):  # a task renders once more if somebody looks at it
        rendered = copy(task)
        rendered.render_template_fields(context)
        assert rendered.query == "SELECT '2026-02-27 22:00:00', '2026-02-27'"


def test_dispatch_of_a_run_knows_its_dates(workshop: Workshop) -> None:
    run = SimpleNamespace(dag_id="churn", run_id="r", run_type="manual", triggering_user_name=None)
    interval = interval_at(workshop.model(), NOON)
    dates = {"data_interval_start": interval[0], "data_interval_end": interval[1], "logical_date": NOON}
    dispatch = dispatch_of_run(workshop.model(), {"dag_run": run, "params": {}, **dates})
    assert (dispatch.data_interval, dispatch.logical_date) == (interval, NOON)
    assert dispatch_of_run(workshop.model(), {"dag_run": run, "params": {}}).logical_date is None


def test_a_query_that_would_compare_with_the_word_none_is_refused(workshop: Workshop) -> None:
    query = "SELECT id, a, b, c FROM customers WHERE b >= '{{ prev_data_interval_end_success }}'"
    task: Any = dag_of(workshop, source={"query": query}).get_task("collect")
    first = {"prev_data_interval_end_success": Proxy(lambda: None)}
    run = SimpleNamespace(run_after=NOON)
    task.render_template_fields({"dag_run": run, "params": {}, "var": {}, "conn": {}, **first})
    with pytest.raises(TemplateMistake, match="prints None"):
        task.query_source()()
    workshop.add_model("churn", source={"query": "SELECT 1 AS id LIMIT {{ params.row_limit }}"})
    with pytest.raises(TemplateMistake, match="prints None"):
        render(workshop.model().source.query, workshop.model(), moment=NOON)
    assert render("{{ params.row_limit or 5 }}", workshop.model(), moment=NOON) == "5"


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("data_interval_start.isoformat", r"<built-in method isoformat .*>; call it"),
        ("data_interval_start.to_date_string", r"<bound method .*to_date_string .*>; call it"),
        ("dag", r"<DAG: churn>; print one of its values"),
        ("conn", r"<.*> *; print one of its values"),
        ("[1] | map('string')", r"<generator object .*>; print one of its values"),
    ],
)
def test_a_query_that_would_compare_with_an_object_is_refused(
    workshop: Workshop, printed: str, shown: str
) -> None:
    query = f"SELECT id, a, b, c FROM customers WHERE b < '{{{{ {printed} }}}}'"
    workshop.add_model("churn", source={"query": query})
    with pytest.raises(TemplateMistake, match=f"prints the object {shown}"):
        render(query, workshop.model(), moment=NOON)


def test_texts_and_values_are_printed_as_they_are(workshop: Workshop) -> None:
    query = "{{ '<b>' }} {{ [1, 'a'] }} {{ {'a': 1} }} {{ data_interval_start.timezone }} {{ 1.5 }}"
    assert render(query, workshop.model(), moment=NOON) == "<b> [1, 'a'] {'a': 1} UTC 1.5"


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("SELECT {{ nothing }}", "'nothing' is undefined"),
        ("SELECT {{ 1 / }}", ""),
        ("SELECT {% if %}", ""),
        ("SELECT {{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("SELECT {{ data_interval_start - 1 }}", "TypeError: unsupported operand"),
        ("SELECT {{ conn.nobody.host }}", ""),
        ("{% for n in range(10 ** 9) %}{% endfor %}", "OverflowError: Range too big"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "RecursionError: maximum recursion depth"),
    ],
)
def test_template_that_cannot_be_rendered_is_a_clear_error(
    workshop: Workshop, query: str, fault: str
) -> None:
    workshop.add_model("churn", source={"query": query})
    with pytest.raises(TemplateError, match=rf"models\.churn\.source\.query: {fault}"):
        render(query, workshop.model(), moment=NOON)
    from airflow.sdk.execution_time.context import ConnectionAccessor

    task: Any = dag_of(workshop, source={"query": query}).get_task("collect")
    run = SimpleNamespace(run_after=NOON)
    dates = {"data_interval_start": NOON - timedelta(days=1), "data_interval_end": NOON}
    known = {"dag_run": run, "params": {}, "var": {}, "conn": ConnectionAccessor()}
    task.render_template_fields({**known, **dates})
    with pytest.raises(TemplateError, match=rf"models\.churn\.source\.query: {fault}"):
        task.query_source()()


def test_dag_is_the_same_at_every_parse(workshop: Workshop) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    loaded = workshop.loaded
    first, second = (DagSerialization.to_dict(build_dag(workshop.model(), loaded)) for _ in range(2))
    assert first == second  # a difference would make Airflow store a new version at each parse
