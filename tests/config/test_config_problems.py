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
    ("line", "path", "facts"),
    [
        (
            "schedule: 5 minutes",
            "schedule",
            ("'5 minutes'", "'*/5 * * * *'", "'5m'", "'@hourly'"),
        ),
        ("schedule: 5", "schedule", ("'*/5 * * * *'",)),
        ("schedule: {assets: [a]}", "schedule", ()),
        ("schedule: [churn.predictions]", "schedule", ("'churn.predictions'",)),
        ("schedul: 5m", "schedul", ("'schedule'",)),
        ("xyzzy: 5m", "xyzzy", ()),
        ("name: other", "name", ()),
        ("execution: task", "execution", ("'task'", "steps", "together")),
        ("retries: '3'", "retries", ("'3'",)),
        ("retries: 3.0", "retries", ("3.0",)),
        ("retries: yes", "retries", ()),
        ("retries: -1", "retries", ("1", "0")),
        ("retries: 101", "retries", ("101", "100")),
        ("retries:", "retries", ()),
        ("catchup: maybe", "catchup", ("'maybe'",)),
        ("catchup: true", "catchup", ("start_date", "2026-01-31")),
        ("retry_delay: 30", "retry_delay", ("'30s'", "'30m'")),
        ("retry_delay: soon", "retry_delay", ("'soon'",)),
        ("task_timeout: 0s", "task_timeout", ("0s",)),
        (
            "owner: 2026-01-01",
            "owner",
            ("2026-01-01",),
        ),
        (
            "owner: no",
            "owner",
            ("'no'",),
        ),
        ("owner: ''", "owner", ("''", "1")),
        ('description: "a\\nb"', "description", ("'a\\nb'",)),
        ("tags: weekly", "tags", ("'weekly'",)),
        ("tags: [a, 1]", "tags[1]", ("1",)),
        (f"tags: [{'x' * 101}]", "tags[0]", ()),
        ("pool: {}", "pool", ()),
        ("start_date: 2026-13-45", "start_date", ("2026-13-45",)),
        ("start_date: tomorrow", "start_date", ("'tomorrow'", "2026-01-31")),
        ("start_date: 5", "start_date", ("5",)),
        ("start_date: 9999-12-31T23:59:59-12:00", "start_date", ()),
        ("features: []", "features", ("1",)),
        ("features: [a, b, a]", "features", ("'a'",)),
        ("showroom: [a]", "showroom", ()),
        ("showroom: {image: {width: 8}}", "showroom.image.height", ()),
        ("showroom: {cases: ''}", "showroom.cases", ()),
        ("max_active_runs: 0", "max_active_runs", ("0", "1")),
        ("retries: !!python/object:os.system 5", "retries", ()),
        ("retries: !!int five", "retries", ()),
        ("5: x", "5", ("5", "'5'")),
        ("on: x", "on", ("'on'",)),
        ("~: x", "~", ()),
    ],
)
def test_a_mistake_in_a_model_is_named_with_line_and_remedy(
    complain_about: Callable[[str], list[str]], line: str, path: str, facts: tuple[str, ...]
) -> None:
    (found,) = complain_about(line)

    assert found.startswith(f"config.yaml:7: models.churn.{path}: ")
    assert [fact for fact in facts if fact not in found] == []


@pytest.mark.parametrize(
    ("instead", "path", "facts"),
    [
        (
            "model: {format: skop, uri: a}",
            "model.format",
            ("'skop'", "'skops'"),
        ),
        (
            "model: {format: pmml, uri: a}",
            "model.format",
            ("'pmml'",),
        ),
        (
            "model: {format: joblib, uri: a.joblib}",
            "model.sha256",
            ("sha256sum a.joblib",),
        ),
        (
            "model: {format: pickle, uri: a.pkl, sha256: abc}",
            "model.sha256",
            ("'abc'", "64", "sha256sum a.pkl"),
        ),
        (
            "model: {format: joblib, uri: a, sha256: " + "a" * 64 + ", trusted: [x]}",
            "model.trusted",
            (),
        ),
        ("model: {format: lightgbm, uri: a, classes: ['no', 1]}", "model.classes", ("int, str",)),
        ("model: {format: lightgbm, uri: a, classes: [a, b, a]}", "model.classes", ("twice",)),
        ("model: {format: skops, uri: a, classes: [a, b]}", "model.classes", ("skops",)),
        ("model: {format: lightgbm, uri: a, container: frame}", "model.container", ("lightgbm",)),
        ("model: {format: skops, uri: ''}", "model.uri", ("''", "1")),
        ("model: {format: skops}", "model.uri", ()),
        (
            "model: models/a.skops",
            "model",
            ("'models/a.skops'",),
        ),
        ("model: ['a', 'b']", "model", ()),
        ("model:", "model", ()),
        ("key: []", "key", ("1",)),
        ("key: id", "key", ("'id'",)),
        ("key: [id, id]", "key", ("'id'",)),
        ("key: [prediction]", "key", ("'prediction'",)),
        ("key: [Dispatch_ID]", "key", ("'Dispatch_ID'",)),
        ("key: [probability_x]", "key", ("'probability_x'",)),
        ("source: {connection: w, query: ' '}", "source.query", ()),
        ("source: {connection: w, query: {{ x }}}", "source.query", ()),
        ("source: {connection: w, query: a, batch_rows: 0}", "source.batch_rows", ("0",)),
        ("sink: {connection: w, table: a.b.c.d}", "sink.table", ("'a.b.c.d'",)),
        (
            "sink: {connection: w, table: a, mode: upsrt}",
            "sink.mode",
            ("'upsrt'", "'upsert'"),
        ),
        (
            "sink: {connection: w, table: a, create: yep}",
            "sink.create",
            ("'yep'",),
        ),
    ],
)
def test_a_mistake_in_a_section_is_named(
    complain: Complain, instead: str, path: str, facts: tuple[str, ...]
) -> None:
    key = instead.partition(":")[0]
    lines = ["models:\n", "  churn:\n", *MODEL.splitlines(keepends=True)]
    number = next(index for index, line in enumerate(lines) if line.strip().startswith(key + ":"))
    lines[number] = f"    {instead}\n"

    (found,) = complain("".join(lines))

    assert found.startswith(f"config.yaml:{number + 1}: models.churn.{path}: ")
    assert [fact for fact in facts if fact not in found] == []


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


def test_a_password_is_not_shown_where_what_is_written_is_cut(complain: Complain) -> None:
    address = "snowflake://the_account_of_analytics:hunter2hunter2hunter2hunter2hunter2@host/db"
    (found,) = complain("models:\n" + model("churn") + f"    retries: '{address}'\n")
    assert "'snowflake://the_account_of_analytics:***@host/db'" in found


@pytest.mark.parametrize(
    ("line", "path", "base"),
    [
        ("retries: 010", "retries", 8),
        ("input: {columns: {code: {allowed: [10, 020]}}}", "input.columns.code.allowed[1]", 8),
        ("model: {format: xgboost, uri: m.json, classes: [1, 010]}", "model.classes[1]", 8),
        ("input: {columns: {at: {max: 10:30}}}", "input.columns.at.max", 60),
        ("error_threshold: 1:30.5", "error_threshold", 60),
    ],
)
def test_a_number_that_yaml_reads_in_another_base_is_refused(
    complain: Complain, line: str, path: str, base: int
) -> None:
    entry = (
        model("churn").replace("    model: {format: skops, uri: m.skops}\n", "") if "model:" in line else ""
    )
    (found,) = complain(f"models:\n{entry or model('churn')}    {line}\n")
    assert f"models.churn.{path}: YAML reads " in found
    assert f"as a number of base {base}; write it in decimal, or text in quotes" in found


def test_zeros_are_no_number_of_another_base(load: Load) -> None:
    assert load("models:\n" + model("churn") + "    retries: 00\n").config.models["churn"].retries == 0


@pytest.mark.parametrize("line", ['tags: ["a\\0b"]', 'description: "a\\0b"', 'pool: "\\0"', 'docs: "\\x00"'])
def test_a_nul_breaks_its_own_model_only(load: Load, line: str) -> None:
    loaded = load("models:\n" + model("ill") + f"    {line}\n" + model("sound"))
    assert [*loaded.config.models] == ["sound"]
    assert "the text holds a NUL character; remove it" in str(loaded.problems[0])


def test_duplicate_keys_are_refused_with_both_lines(complain: Complain) -> None:
    text = "models:\n" + model("churn") + "    key: [other]\n"

    assert complain(text) == ["config.yaml:7: models.churn.key: duplicate key, first in line 4; keep one"]


def test_a_duplicate_section_stops_the_file(complain: Complain, load: Load) -> None:
    text = "events: {}\nmodels:\n" + model("churn") + "events: {}\n"

    assert complain(text) == ["config.yaml:8: events: duplicate key, first in line 1; keep one"]
    with pytest.raises(ConfigError):
        load(text)


def test_a_duplicate_model_is_broken_and_the_others_are_not(load: Load) -> None:
    loaded = load("models:\n" + model("a") + model("b") + model("a"))

    assert list(loaded.config.models) == ["b"]
    (problem,) = loaded.broken["a"]
    assert (problem.line, problem.message) == (12, "duplicate key, first in line 2; keep one")


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
    with pytest.raises(ConfigError, match=r"models\.bad: .*\b5\b"):
        loaded.model("bad")
    with pytest.raises(ConfigError, match=r"'goo'.*'good'"):
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
    ("source", "sink", "mode", "path", "facts"),
    [
        ("cursor: {column: changed}", "warehouse", "append", "source.cursor", ()),
        (
            "cursor: {column: changed}",
            "warehouse",
            "replace",
            "source.cursor",
            (),
        ),
        ("cursor: {column: changed, lag: -1}", "warehouse", "upsert", "source.cursor.lag", ("1",)),
        ("cursor: {column: changed, lag: 5x}", "warehouse", "upsert", "source.cursor.lag", ("'5x'",)),
        ("cursor: {column: changed, lag: yes}", "warehouse", "upsert", "source.cursor.lag", ()),
        ("cursor: {column: ''}", "warehouse", "upsert", "source.cursor.column", ("''",)),
        ("cursor: {lag: 1h}", "warehouse", "upsert", "source.cursor.column", ()),
        ("cursor: {column: changed, initial: soon}", "w", "upsert", "source.cursor.initial", ("'soon'",)),
        ("cursor: {column: changed, initial: 1.5}", "w", "upsert", "source.cursor.initial", ()),
        ("cursor: {column: changed, initial: 5, lag: 1h}", "w", "upsert", "source.cursor", ()),
        (
            "cursor: {column: changed, initial: 2026-01-01, lag: 5}",
            "warehouse",
            "upsert",
            "source.cursor",
            ("5", "2026-01-01"),
        ),
        ("skip_predicted: true", "warehouse", "replace", "source.skip_predicted", ()),
        ("skip_predicted: true", "lake", "upsert", "source.skip_predicted", ()),
    ],
)
def test_what_an_incremental_model_needs_is_said_at_its_parameter(
    complain: Complain, source: str, sink: str, mode: str, path: str, facts: tuple[str, ...]
) -> None:
    (found,) = complain(INCREMENTAL.format(source=source, sink=sink, mode=mode))

    assert found.startswith(f"config.yaml:8: models.churn.{path}: ")
    assert [fact for fact in facts if fact not in found] == []


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
