"""What an operator reads when config.yaml is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlops_plugin.config.loader import LoadedConfig
from mlops_plugin.errors import ConfigError

Complain = Callable[[str | bytes], list[str]]
Load = Callable[..., LoadedConfig]

MODEL = """\
    model: {format: skops, uri: m.skops}
    key: [id]
    source: {connection: warehouse, query: SELECT id FROM t}
    sink: {connection: warehouse, table: TABLE}
"""


def model(name: str) -> str:
    return f"  {name}:\n" + MODEL.replace("TABLE", f"{name}_predictions")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "schedule: 5 minutes",
            "schedule: '5 minutes' is not a cron expression; write e.g. '*/5 * * * *', '5m', '@hourly', or a "
            "list of asset names",
        ),
        ("schedule: 5", "schedule: not a schedule; write e.g. '*/5 * * * *'"),
        ("schedule: {assets: [a]}", "schedule: not a schedule"),
        ("schedule: [churn.predictions]", "schedule: 'churn.predictions' is this model's own asset"),
        ("schedul: 5m", "schedul: unknown key; did you mean 'schedule'?"),
        ("xyzzy: 5m", "xyzzy: unknown key; there are schedule, timezone, "),
        ("name: other", "name: unknown key"),
        ("retries: '3'", "retries: found the text '3', expected a whole number"),
        ("retries: 3.0", "retries: found the number 3.0, expected a whole number"),
        ("retries: yes", "retries: found the boolean yes, expected a whole number"),
        ("retries: -1", "retries: found the number -1, expected at least 0"),
        ("retries: 101", "retries: found the number 101, expected at most 100"),
        ("retries:", "retries: found nothing, expected a whole number"),
        ("catchup: maybe", "catchup: found the text 'maybe', expected true or false"),
        ("catchup: true", "catchup: catchup needs a start_date; write e.g. start_date: 2026-01-31"),
        ("retry_delay: 30", "retry_delay: a duration needs a unit; write e.g. '30s' or '30m'"),
        ("retry_delay: soon", "retry_delay: 'soon' is not a duration"),
        ("task_timeout: 0s", "task_timeout: must be longer than 0s"),
        (
            "owner: 2026-01-01",
            "owner: found the date 2026-01-01, expected a text; if you mean the text, put it",
        ),
        (
            "owner: no",
            "owner: found the boolean no, expected a text; if you mean the text, put it in quotes: 'no'",
        ),
        ("owner: ''", "owner: found the text '', expected at least 1 character(s)"),
        ('description: "a\\nb"', "description: found the text 'a\\nb', expected a text of one line"),
        ("tags: weekly", "tags: found the text 'weekly', expected a list, e.g. [a, b]"),
        ("tags: [a, 1]", "tags[1]: found the number 1, expected a text"),
        (f"tags: [{'x' * 101}]", "tags[0]: found the text"),
        ("pool: {}", "pool: found a mapping, expected a text"),
        ("start_date: 2026-13-45", "start_date: 2026-13-45 is not a valid date"),
        ("start_date: tomorrow", "start_date: 'tomorrow' is not a date or time; write e.g. 2026-01-31"),
        ("start_date: 5", "start_date: found the number 5, expected a date or time"),
        ("start_date: 9999-12-31T23:59:59-12:00", "start_date: "),
        ("features: []", "features: found a list, expected at least 1 item(s)"),
        ("features: [a, b, a]", "features: 'a' is listed twice"),
        ("showroom: [a]", "showroom: found a list, expected a mapping with the keys title, cases, search"),
        ("showroom: {image: {width: 8}}", "showroom.image.height: required, but missing: Rows of pixels"),
        ("showroom: {cases: ''}", "showroom.cases: the query is empty"),
        ("max_active_runs: 0", "max_active_runs: found the number 0, expected at least 1"),
        ("retries: !!python/object:os.system 5", "retries: the tag !!python/object:os.system is not allowed"),
        ("retries: !!int five", "retries: five is not a valid number"),
        ("5: x", "5: YAML reads the key 5 as a number; put it in quotes: '5'"),
        ("on: x", "on: YAML reads the key on as a boolean; put it in quotes: 'on'"),
        ("~: x", "~: the key is empty"),
    ],
)
def test_a_mistake_in_a_model_is_named_with_line_and_remedy(
    complain_about: Callable[[str], list[str]], line: str, problem: str
) -> None:
    (found,) = complain_about(line)

    assert found.startswith(f"config.yaml:7: models.churn.{problem}")


@pytest.mark.parametrize(
    ("instead", "problem"),
    [
        (
            "model: {format: skop, uri: a}",
            "model.format: found the text 'skop', expected one of skops, joblib, pickle; did you "
            "mean 'skops'?",
        ),
        (
            "model: {format: onnx, uri: a}",
            "model.format: found the text 'onnx', expected one of skops, joblib, ",
        ),
        (
            "model: {format: joblib, uri: a.joblib}",
            "model.sha256: required for joblib, which can run code when loaded; `sha256sum a.joblib` "
            "prints it",
        ),
        (
            "model: {format: pickle, uri: a.pkl, sha256: abc}",
            "model.sha256: 'abc' is not 64 hex digits; `sha256sum a.pkl` prints them",
        ),
        (
            "model: {format: joblib, uri: a, sha256: " + "a" * 64 + ", trusted: [x]}",
            "model.trusted: only for format skops, but the format is joblib",
        ),
        ("model: {format: skops, uri: ''}", "model.uri: found the text '', expected at least 1"),
        ("model: {format: skops}", "model.uri: required, but missing: The file: a path"),
        (
            "model: models/a.skops",
            "model: found the text 'models/a.skops', expected a mapping with the keys format",
        ),
        ("model: ['a', 'b']", "model: found a list, expected a mapping with the keys format, uri"),
        ("model:", "model: found nothing, expected a mapping with the keys format, uri"),
        ("key: []", "key: found a list, expected at least 1 item(s)"),
        ("key: id", "key: found the text 'id', expected a list"),
        ("key: [id, id]", "key: 'id' is listed twice"),
        ("key: [prediction]", "key: 'prediction' is a column of the predictions table; rename it"),
        ("key: [Dispatch_ID]", "key: 'Dispatch_ID' is a column of the predictions table"),
        ("key: [probability_x]", "key: 'probability_x' is a column of the predictions table"),
        ("source: {connection: w, query: ' '}", "source.query: the query is empty"),
        ("source: {connection: w, query: {{ x }}}", "source.query: "),
        ("source: {connection: w, query: a, batch_rows: 0}", "source.batch_rows: found the number 0"),
        ("sink: {connection: w, table: a.b.c.d}", "sink.table: 'a.b.c.d' is no table name"),
        (
            "sink: {connection: w, table: a, mode: upsrt}",
            "sink.mode: found the text 'upsrt', expected one of append, upsert, replace; did you "
            "mean 'upsert'?",
        ),
        (
            "sink: {connection: w, table: a, create: yep}",
            "sink.create: found the text 'yep', expected true or ",
        ),
    ],
)
def test_a_mistake_in_a_section_is_named(complain: Complain, instead: str, problem: str) -> None:
    key = instead.partition(":")[0]
    lines = ["models:\n", "  churn:\n", *MODEL.splitlines(keepends=True)]
    number = next(index for index, line in enumerate(lines) if line.strip().startswith(key + ":"))
    lines[number] = f"    {instead}\n"

    (found,) = complain("".join(lines))

    assert found.startswith(f"config.yaml:{number + 1}: models.churn.{problem}")


def test_all_problems_come_at_once(complain: Complain) -> None:
    found = complain(
        "defalts: {}\n"
        "events: {conection: x}\n"
        "models:\n"
        "  churn:\n"
        "    schedule: often\n"
        "    retries: many\n"
        "    model: {format: joblib}\n"
        "  fraud: 5\n"
    )

    assert [line.partition(": ")[0] for line in found] == [
        f"config.yaml:{n}" for n in (1, 2, 4, 4, 4, 5, 6, 7, 7, 8)
    ]
    assert found[0].endswith("defalts: unknown key; did you mean 'defaults'?")
    assert found[1].endswith("events.conection: unknown key; did you mean 'connection'?")


@pytest.mark.parametrize(
    "written",
    [
        "mysql://root:hunter2@db/x",
        "{password: hunter2}",
        "[hunter2]",
        "DSN=x;PWD=hunter2",
        "hunter2 is the password",
    ],
)
def test_a_secret_in_place_of_a_connection_is_refused_and_never_shown(
    complain: Complain, written: str
) -> None:
    text = "models:\n" + model("churn").replace(
        "connection: warehouse, query", f"connection: {written}, query"
    )

    (found,) = complain(text)
    (in_events,) = complain(f"events:\n  connection: {written}\nmodels: {{}}\n")

    assert found.startswith("config.yaml:5: models.churn.source.connection: ")
    assert in_events.startswith("config.yaml:2: events.connection: ")
    assert "Airflow connection" in found
    assert "hunter2" not in found + in_events


@pytest.mark.parametrize("place", ["model", "staging"])
def test_credentials_in_a_url_are_refused_and_never_shown(complain: Complain, place: str) -> None:
    text = "models:\n" + model("churn")
    url = "ftp://me:hunter2@host/a.skops"
    text = text.replace("m.skops", url) if place == "model" else text + f"staging: {{url: '{url}'}}\n"

    (found,) = complain(text)

    assert "the URL holds a user or password" in found
    assert "hunter2" not in found


def test_duplicate_keys_are_refused_with_both_lines(complain: Complain) -> None:
    text = "models:\n" + model("churn") + "    key: [other]\n"

    assert complain(text) == [
        "config.yaml:7: models.churn.key: the key stands here twice, first in line 4; keep one"
    ]


def test_a_duplicate_section_stops_the_file(complain: Complain, load: Load) -> None:
    text = "events: {}\nmodels:\n" + model("churn") + "events: {}\n"

    assert complain(text) == ["config.yaml:8: events: the key stands here twice, first in line 1; keep one"]
    with pytest.raises(ConfigError):
        load(text)


def test_a_duplicate_model_is_broken_and_the_others_are_not(load: Load) -> None:
    loaded = load("models:\n" + model("a") + model("b") + model("a"))

    assert list(loaded.config.models) == ["b"]
    (problem,) = loaded.broken["a"]
    assert (problem.line, problem.message) == (12, "the key stands here twice, first in line 2; keep one")


@pytest.mark.parametrize("name", ["a b", "größe", "x" * 201, "a/b"])
def test_a_name_that_is_no_dag_id_breaks_only_its_model(load: Load, name: str) -> None:
    loaded = load("models:\n" + model("good") + model(name))

    assert list(loaded.config.models) == ["good"]
    assert loaded.broken[name][0].line == 7
    assert "characters A-Z a-z 0-9 _ . -" in loaded.broken[name][0].message


def test_names_that_differ_in_case_are_two_models(load: Load) -> None:
    loaded = load("models:\n" + model("churn") + model("Churn").replace("Churn_pred", "other_pred"))

    assert list(loaded.config.models) == ["churn", "Churn"]


@pytest.mark.parametrize("second_mode", ["replace", "append", "upsert"])
def test_two_models_share_a_table_only_where_all_append(load: Load, second_mode: str) -> None:
    def writing(name: str, table: str, mode: str) -> str:
        return model(name).replace(f"table: {name}_predictions", f"table: {table}, mode: {mode}")

    for first_mode in ("append", "upsert", "replace"):
        loaded = load(
            "models:\n"
            + writing("a", "shared", first_mode)
            + writing("b", "main.Shared", second_mode)
            + model("c")
        )
        if (first_mode, second_mode) != ("append", "append"):
            assert list(loaded.config.models) == ["c"]
            assert [problem.line for problem in (*loaded.broken["a"], *loaded.broken["b"])] == [6, 11]
            assert "also written by b" in loaded.broken["a"][0].message
        else:
            assert list(loaded.config.models) == ["a", "b", "c"]


def test_catchup_in_the_defaults_needs_a_start_date_somewhere(load: Load) -> None:
    text = "defaults: {catchup: true}\nmodels:\n" + model("a") + model("b") + "    start_date: 2026-01-01\n"
    loaded = load(text)

    assert list(loaded.config.models) == ["b"]
    (problem,) = loaded.broken["a"]
    assert (problem.line, problem.path) == (1, "models.a.catchup")


def test_continuous_runs_one_at_a_time(complain_about: Callable[[str], list[str]]) -> None:
    assert complain_about('schedule: "@continuous"') == []
    assert complain_about('schedule: "@continuous"\nmax_active_runs: 2') == [
        "config.yaml:8: models.churn.max_active_runs: must be 1 with schedule @continuous, found 2"
    ]


def test_mistakes_in_the_defaults_are_reported_once(complain: Complain) -> None:
    text = "defaults:\n  retries: many\n  retry_delay: 5\nmodels:\n" + model("a") + model("b")

    assert [line.partition(": found")[0] for line in complain(text)] == [
        "config.yaml:2: defaults.retries",
        "config.yaml:3: defaults.retry_delay: a duration needs a unit; write e.g. '5s' or '5m'",
    ]


def test_asking_for_a_broken_model_says_why(load: Load) -> None:
    loaded = load("models:\n" + model("good") + "  bad: 5\n")

    assert loaded.model("good").name == "good"
    with pytest.raises(ConfigError, match=r"models\.bad: found the number 5"):
        loaded.model("bad")
    with pytest.raises(ConfigError, match="no model 'goo'; did you mean 'good'"):
        loaded.model("goo")


INCREMENTAL = """\
models:
  churn:
    model: {{format: skops, uri: churn.skops}}
    key: [id]
    source:
      connection: warehouse
      query: SELECT id, changed FROM customers
      {source}
    sink: {{connection: {sink}, table: t, mode: {mode}}}
"""


@pytest.mark.parametrize(
    ("source", "sink", "mode", "problem"),
    [
        ("cursor: {column: changed}", "warehouse", "append", "source.cursor: a cursor reads some rows"),
        (
            "cursor: {column: changed}",
            "warehouse",
            "replace",
            "source.cursor: a cursor reads some rows",
        ),
        ("cursor: {column: changed, lag: -1}", "warehouse", "upsert", "source.cursor.lag: -1 is no distance"),
        ("cursor: {column: changed, lag: 5x}", "warehouse", "upsert", "source.cursor.lag: '5x' is not a dur"),
        ("cursor: {column: changed, lag: yes}", "warehouse", "upsert", "source.cursor.lag: not a duration"),
        ("cursor: {column: ''}", "warehouse", "upsert", "source.cursor.column: found the text ''"),
        ("cursor: {lag: 1h}", "warehouse", "upsert", "source.cursor.column: required, but missing"),
        ("cursor: {column: changed, initial: soon}", "w", "upsert", "source.cursor.initial: 'soon' is not a"),
        ("cursor: {column: changed, initial: 1.5}", "w", "upsert", "source.cursor.initial: expected a date"),
        ("cursor: {column: changed, initial: 5, lag: 1h}", "w", "upsert", "source.cursor: lag is a duration"),
        (
            "cursor: {column: changed, initial: 2026-01-01, lag: 5}",
            "warehouse",
            "upsert",
            "source.cursor: lag is the number 5, but initial is the time 2026-01-01",
        ),
        ("skip_predicted: true", "warehouse", "replace", "source.skip_predicted: mode replace keeps the new"),
        ("skip_predicted: true", "lake", "upsert", "source.skip_predicted: the database compares rows with"),
    ],
)
def test_what_an_incremental_model_needs_is_said_at_its_parameter(
    complain: Complain, source: str, sink: str, mode: str, problem: str
) -> None:
    (found,) = complain(INCREMENTAL.format(source=source, sink=sink, mode=mode))

    assert found.startswith(f"config.yaml:8: models.churn.{problem}")


@pytest.mark.parametrize(
    "source",
    [
        "cursor: {column: changed, lag: 15m, initial: 2026-01-31T06:00:00+02:00}",
        "cursor: {column: changed, lag: 1000, initial: 5}",
        "cursor: {column: changed, lag: 0, initial: 2026-01-31}",
        "skip_predicted: true",
    ],
)
def test_incremental_models_are_well_described(load: Load, source: str) -> None:
    loaded = load(INCREMENTAL.format(source=source, sink="warehouse", mode="upsert"))

    assert list(loaded.config.models) == ["churn"]
