"""Files that are no configuration, or an unusual one."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_plugin.config.document import LARGEST_FILE
from mlops_plugin.config.loader import LoadedConfig, find_config_file, load_config
from mlops_plugin.errors import ConfigError

Complain = Callable[[str | bytes], list[str]]
Load = Callable[..., LoadedConfig]

MODEL = """\
    model: {format: skops, uri: m.skops}
    key: [id]
    source: {connection: warehouse, query: SELECT id FROM t}
    sink: {connection: warehouse, table: predictions}
"""
CHURN = "models:\n  churn:\n" + MODEL


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "config.yaml:1: "),
        (b"# nothing yet\n\n", "config.yaml:1: "),
        (b"---\n", "config.yaml:1: "),
        (b"- a\n- b\n", "config.yaml:1: "),
        (b"models\n", "config.yaml:1: "),
        (b"{}\n", "config.yaml: models: "),
        (b"models:\n", "config.yaml:1: models: "),
        (b"events: {}\nmodels: [churn]\n", "config.yaml:2: models: "),
        (b"events:\nmodels: {}\n", "config.yaml:1: events: "),
        (b"models:\n\tchurn:\n", "config.yaml:2: "),
        (b"models: {}\n---\nmodels: {}\n", "config.yaml:2: "),
        (
            b"models: {}\nowner: Andr\xe9\n",
            "config.yaml:2: byte 0xE9 is not UTF-8; the file looks like Latin-1",
        ),
        ("models: {}\n".encode("utf-16"), "config.yaml:1: the file is UTF-16 or UTF-32; save it as UTF-8"),
        ("models: {}\n".encode("utf-32"), "config.yaml:1: the file is UTF-16 or UTF-32; save it as UTF-8"),
        (b"models: {}\nevents: {path: \x07}\n", "config.yaml:2: the character U+0007 is not allowed"),
        (b"models: {}\n\x00", "config.yaml:2: the character U+0000 is not allowed"),
        (
            b"models: {}\nevents: {path: 'a\n",
            "config.yaml:3: ",
        ),
        (b"models: {a: *b}\n", "config.yaml:1: "),
        (b"models: {a: !!python/object/apply:os.system [id]}\n", "config.yaml:1: models.a: the tag "),
        (b"models: " + b"[" * 100_000, "config.yaml:1: nested more than 30 levels deep"),
        (b"- " * 100_000, "config.yaml:1: nested more than 30 levels deep"),
        (b"models: &a {churn: *a}\n", "config.yaml:1: nested more than 30 levels deep; an alias may contain"),
        (
            b"? {a: b}\n: c\nmodels: {}\n",
            "config.yaml:1: a key is a text, but this one is a list or a mapping",
        ),
        (b"models: {}\n<<: 5\n", "config.yaml:2: <<: expects an alias of a mapping"),
        (b"1: x\nmodels: {}\n", "config.yaml:1: 1: YAML reads the key 1 as a number; put it in quotes: '1'"),
    ],
)
def test_what_is_no_configuration_is_explained(complain: Complain, content: bytes, problem: str) -> None:
    found = complain(content)

    assert found[0].startswith(problem)
    assert len(found) == 1


def test_an_alias_bomb_is_refused_quickly(complain: Complain) -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 12))
    started = os.times().user

    (found,) = complain(f"l0: &l0 [x]\n{levels}models: {{}}\n")

    assert "values once its aliases are expanded" in found
    assert os.times().user - started < 5


@pytest.mark.parametrize(
    "number",
    ["9" * 600_000, "0x" + "f" * 600_000, ":".join(["59"] * 200_000), "0" + "7" * 600_000, "1" * 5000],
)
def test_a_number_of_hundreds_of_kilobytes_is_refused_unread(complain: Complain, number: str) -> None:
    (found,) = complain(f"models: {{}}\nserving: {{memory_mb: {number}}}\n")
    assert found.startswith(f"config.yaml:2: serving.memory_mb: {number[:20]}")
    assert "is not a valid number" in found
    assert len(found) < 1000


def test_each_of_thousands_of_broken_entries_has_its_line(tmp_path: Path) -> None:
    count = 5000
    file = tmp_path / "config.yaml"
    file.write_text("models:\n" + "".join(f"  m{number}:\n    key: 1\n" for number in range(count)))
    broken = load_config(file).broken
    assert len(broken) == count
    for number in (0, 1, count - 1):
        lines = {problem.path: problem.line for problem in broken[f"m{number}"]}
        assert lines[f"models.m{number}.key"] == 3 + 2 * number


def test_a_missing_file_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml.*config_file.*AIRFLOW__MLOPS__CONFIG_FILE"):
        load_config(tmp_path / "config.yaml")


def test_a_folder_a_socket_and_an_impossible_name_are_no_files(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind(str(tmp_path / "s"))
        os.mkfifo(tmp_path / "pipe")
        for path in (
            tmp_path,
            tmp_path / "s",
            tmp_path / "pipe",
            tmp_path / "s" / "config.yaml",
            tmp_path / ("x" * 300),
            tmp_path / "a\0b",
        ):
            with pytest.raises(ConfigError) as refused:
                load_config(path)
            (problem,) = refused.value.problems
            assert problem.line is None
            assert problem.file.endswith(path.name)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with path.open("wb") as file:
        file.truncate(LARGEST_FILE + 1)

    with pytest.raises(ConfigError, match=str(LARGEST_FILE)):
        load_config(path)


def test_a_file_elsewhere_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    with pytest.raises(ConfigError) as refusal:
        load_config(Path("../config.yaml"))

    assert refusal.value.problems[0].file.endswith("config.yaml")
    assert refusal.value.problems[0].file.startswith("/")


def test_a_byte_order_mark_and_windows_line_ends_make_no_difference(load: Load) -> None:
    plain = load(CHURN).config
    windows = b"\xef\xbb\xbf" + CHURN.replace("\n", "\r\n").encode()

    assert load(windows).config == plain
    assert load(windows, only="churn").config == plain


def test_problems_in_a_windows_file_have_the_right_line(complain: Complain) -> None:
    text = (CHURN + "    retries: x\n").replace("\n", "\r\n")

    assert complain(text)[0].startswith("config.yaml:7: models.churn.retries: ")


def test_anchors_aliases_and_merges_work(load: Load) -> None:
    text = (
        "models:\n"
        "  a: &a\n" + MODEL + "    retries: 1\n    tags: [x]\n"
        "  b:\n    <<: *a\n    retries: 7\n    sink: {connection: w, table: b}\n"
        "  c:\n    <<: [{retries: 3}, *a]\n    sink: {connection: w, table: c}\n"
    )
    models = load(text).config.models

    assert [models[name].retries for name in "abc"] == [1, 7, 3]
    assert models["b"].tags == models["c"].tags == ("x",)
    assert load(text, only="b").config.models["b"] == models["b"]


def test_a_problem_in_merged_lines_points_at_them(load: Load) -> None:
    text = "models:\n  a: &a\n" + MODEL + "    retries: x\n  b:\n    <<: *a\n"
    loaded = load(text)

    assert {name: [problem.line for problem in found] for name, found in loaded.broken.items()} == {
        "a": [7],
        "b": [7],
    }


def test_times_without_zone_are_utc(load: Load) -> None:
    def start(written: str) -> datetime | None:
        return load(f"{CHURN}    start_date: {written}\n").config.models["churn"].start_date

    assert start("2026-01-01") == datetime(2026, 1, 1, tzinfo=UTC)
    assert start("'2026-01-01'") == datetime(2026, 1, 1, tzinfo=UTC)
    assert start("2026-01-01 06:30:00") == datetime(2026, 1, 1, 6, 30, tzinfo=UTC)
    assert start("2026-01-01T06:30") == datetime(2026, 1, 1, 6, 30, tzinfo=UTC)
    assert start("2026-01-01T06:30:00+02:00") == datetime(2026, 1, 1, 4, 30, tzinfo=UTC)
    assert str(start("2026-01-01T06:30:00+02:00")) == "2026-01-01 04:30:00+00:00"
    assert start("null") is None


def test_a_models_own_value_wins_over_the_defaults(load: Load) -> None:
    text = (
        "defaults: {retries: 5, tags: [x], task_timeout: 5m, retry_delay: 1h30m, start_date: 2026-01-01}\n"
        + CHURN
        + "    retries: 0\n    task_timeout: null\n    tags: [y]\n"
    )
    model = load(text).config.models["churn"]

    assert (model.retries, model.task_timeout, model.tags) == (0, None, ("y",))
    assert model.retry_delay == timedelta(minutes=90)
    assert model.start_date == datetime(2026, 1, 1, tzinfo=UTC)
    assert load(text, only="churn").config.models["churn"] == model


def test_a_relative_path_starts_at_the_files_folder(load: Load, config_file: Path) -> None:
    def uri(written: str) -> str:
        return load(CHURN.replace("m.skops", written)).config.models["churn"].model.uri

    assert uri("models/a.skops") == str(config_file.parent / "models" / "a.skops")
    assert uri("/srv/a.skops") == "/srv/a.skops"
    assert uri("s3://bucket/a.skops") == "s3://bucket/a.skops"


def test_no_models_is_a_configuration(load: Load) -> None:
    assert load("models: {}\n").config.models == {}


def test_the_file_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MLOPS__CONFIG_FILE", "~/mlops.yaml")

    assert find_config_file() == Path("~/mlops.yaml").expanduser()


def test_the_file_is_next_to_the_dags_folder_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__MLOPS__CONFIG_FILE", raising=False)
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "/srv/airflow/dags")

    assert find_config_file() == Path("/srv/airflow/include/config.yaml")
