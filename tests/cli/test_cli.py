"""The `mlops` command: what it says, and the exit status that CI reads."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_plugin.cli import main
from mlops_plugin.config import reference
from support.workshop import Workshop

Captured = pytest.CaptureFixture[str]


def test_check_of_a_sound_file_succeeds(workshop: Workshop, capsys: Captured) -> None:
    assert main(["check"]) == 0
    assert "1 of 1 models OK" in capsys.readouterr().out


def test_check_says_every_problem_with_its_line_and_fails(workshop: Workshop, capsys: Captured) -> None:
    workshop.add_model("ill", schedule="often", retries=-1)
    assert main(["check"]) == 1
    printed = capsys.readouterr()
    assert "models.ill.schedule: 'often'" in printed.out
    assert "models.ill.retries" in printed.out
    assert "1 of 2 models OK; 2 problems" in printed.out


def test_check_of_one_model_leaves_the_others_out(workshop: Workshop, capsys: Captured) -> None:
    workshop.add_model("ill", schedule="often")
    assert main(["check", "churn"]) == 0
    assert main(["check", "churm"]) == 1
    assert "did you mean 'churn'" in capsys.readouterr().out


def test_check_connect_tries_everything_a_dispatch_needs(workshop: Workshop, capsys: Captured) -> None:
    assert main(["check", "--connect"]) == 0
    printed = capsys.readouterr().out
    tried = [line.split(": ")[0] for line in printed.splitlines() if line.startswith("ok ")]
    assert [subject.split()[-1] for subject in tried] == [
        "events",
        "models.churn.model",
        "models.churn.model.isolation",
        "models.churn.source",
        "models.churn.features",
        "models.churn.sink",
    ]
    assert not (workshop.folder / "sink.db").exists()  # looking makes nothing


def test_check_connect_looks_at_contract_and_quarantine_too(workshop: Workshop, capsys: Captured) -> None:
    workshop.add_model("churn", input={"columns": {"a": {"type": "number"}}})
    assert main(["check", "--connect"]) == 0
    printed = capsys.readouterr().out
    assert "ok    models.churn.input: the contract against the query's 4 columns" in printed
    assert "ok    models.churn.quarantine: table churn_predictions_quarantine" in printed


@pytest.mark.parametrize(
    ("changes", "subject", "says"),
    [
        ({"model": {"format": "skops", "uri": "gone.skops"}}, "model", "does not exist"),
        ({"source": {"query": "SELECT id, a FROM nowhere"}}, "source", "nowhere"),
        ({"source": {"query": "SELECT {{ nothing }} AS id"}}, "source", "'nothing' is undefined"),
        ({"source": {"query": "SELECT id, a, b FROM customers"}}, "features", "c"),
        ({"source": {"query": "SELECT a, b, c FROM customers"}}, "source", "no key column id"),
        ({"source": {"connection": "nobody"}}, "source", "AIRFLOW_CONN_NOBODY"),
        ({"sink": {"create": False}}, "sink", "CREATE TABLE"),
        ({"source": {"partitions": {"hash": ["i"], "count": 2}}}, "source.partitions", "no column 'i'"),
        ({"source": {"partitions": {"predicates": ["x > 1"]}}}, "source.partitions", "x"),
        ({"input": {"columns": {"aa": {"min": 0}}}}, "input", "no column 'aa' (did you mean 'a'?)"),
        (
            {"input": {"columns": {"a": {"type": "text"}}}},
            "input",
            "type is text, but the query gives double",
        ),
        ({"input": {"baseline": True}}, "input", "make it with: mlops baseline"),
        (
            {"input": {"columns": {"a": {}}}, "quarantine": {"create": False}},
            "quarantine",
            "no table churn_predictions_quarantine",
        ),
    ],
)
def test_check_connect_finds_what_would_fail(
    workshop: Workshop, capsys: Captured, changes: dict[str, object], subject: str, says: str
) -> None:
    workshop.add_model("churn", **changes)
    assert main(["check", "--connect"]) == 1
    printed = capsys.readouterr()
    assert f"WRONG models.churn.{subject}" in printed.out
    assert says in printed.out
    assert printed.err == ""


def test_check_connect_finds_a_column_of_the_sink_that_would_round(
    workshop: Workshop, capsys: Captured
) -> None:
    workshop.run(workshop.dispatch())
    with contextlib.closing(sqlite3.connect(workshop.folder / "sink.db")) as sink, sink:
        sink.execute("ALTER TABLE churn_predictions_rows RENAME COLUMN probability_stays TO away")
        sink.execute("ALTER TABLE churn_predictions_rows ADD COLUMN probability_stays TEXT")
    assert main(["check", "--connect"]) == 1
    printed = capsys.readouterr()
    assert "WRONG models.churn.sink" in printed.out
    assert "column 'probability_stays' is TEXT, which turns numbers into text with 15 digits" in printed.out


def test_check_connect_says_if_older_dispatches_could_replace_newer_predictions(
    workshop: Workshop, capsys: Captured
) -> None:
    workshop.run(workshop.dispatch())
    workshop.add_model("churn", sink={"create": False})
    assert main(["check", "--connect"]) == 0
    workshop.in_sink("DROP TABLE mlops_dispatches")
    assert main(["check", "--connect"]) == 1
    printed = capsys.readouterr()
    assert "WRONG models.churn.sink.order" in printed.out
    assert 'CREATE TABLE "mlops_dispatches"' in printed.out


def test_check_connect_says_how_many_partitions_there_would_be(workshop: Workshop, capsys: Captured) -> None:
    workshop.add_model("churn", source={"partitions": {"column": "id", "count": 3}})
    assert main(["check", "--connect"]) == 0
    expected = "ok    models.churn.source.partitions: dividing the query's rows: 3 partitions"
    assert expected in capsys.readouterr().out


def test_check_connect_says_where_an_engine_has_no_pages(workshop: Workshop, capsys: Captured) -> None:
    workshop.add_model("churn", source={"pages": {"column": "id"}})
    assert main(["check", "--connect"]) == 1
    printed = capsys.readouterr()
    assert "WRONG models.churn.source.pages" in printed.out
    assert "one snapshot" in printed.out
    assert "sqlite" in printed.out


def test_dispatch_shows_its_accounts(workshop: Workshop, capsys: Captured) -> None:
    assert main(["dispatch", "churn", "--limit", "3"]) == 0
    assert "collected 3  predicted 3  rejected 0  persisted 3" in capsys.readouterr().out
    assert len(workshop.predictions()) == 3


def test_dispatch_over_the_quarantine_takes_only_its_rows(workshop: Workshop, capsys: Captured) -> None:
    workshop.add_model("churn", input={"columns": {"id": {"max": 3}}}, error_threshold=2)
    assert main(["dispatch", "churn"]) == 0
    printed = capsys.readouterr().out
    assert "collected 5  predicted 3  rejected 2  persisted 3" in printed
    assert "rejected: table churn_predictions_quarantine, connection 'sink'" in printed
    workshop.add_model("churn", input={"columns": {"id": {"max": 4}}}, error_threshold=2)
    assert main(["dispatch", "churn", "--quarantined"]) == 0
    assert "collected 2  predicted 1  rejected 1  persisted 1" in capsys.readouterr().out
    assert [row["id"] for row in workshop.predictions()] == [1, 2, 3, 4]


def test_rejected_rows_are_told_with_reason_value_and_key(workshop: Workshop, capsys: Captured) -> None:
    query = "SELECT id, a, CASE id WHEN 2 THEN 'n/a' WHEN 4 THEN '[b]' ELSE CAST(b AS TEXT) END AS b, c"
    contract = {"columns": {"b": {"type": "number"}, "id": {"max": 4}}}
    workshop.add_model("churn", source={"query": f"{query} FROM customers ORDER BY id"}, input=contract)
    assert main(["dispatch", "churn", "--dry-run"]) == 1
    assert "  2 rows: 'b' not a number\n" in capsys.readouterr().out  # a dry run stores no values
    assert main(["dispatch", "churn"]) == 1
    printed = capsys.readouterr().out
    assert "  2 rows: 'b' not a number, e.g. 'n/a' of key 2" in printed
    assert "NULLIF(b, 'n/a')" in printed
    assert "  1 row: 'id' above 4, e.g. '5' of key 5\n" in printed
    workshop.add_model(
        "churn",
        source={"query": f"{query} FROM customers ORDER BY id DESC"},
        input=contract,
        error_threshold=3,
    )
    assert main(["dispatch", "churn"]) == 0
    assert "  2 rows: 'b' not a number, e.g. '[b]' of key 4" in capsys.readouterr().out


def test_dry_run_says_that_nothing_was_written(workshop: Workshop, capsys: Captured) -> None:
    assert main(["dispatch", "churn", "--dry-run"]) == 0
    assert "dry run: nothing was written" in capsys.readouterr().out


def test_dispatch_reads_the_interval_that_is_asked_for(workshop: Workshop) -> None:
    workshop.add_model(
        "churn",
        source={
            "query": "SELECT id, a, b, c FROM customers "
            "WHERE '{{ data_interval_start.date() }}' = '2026-01-02'"
        },
    )
    assert main(["dispatch", "churn", "--interval", "2026-01-02", "2026-01-03"]) == 0
    assert len(workshop.predictions()) == 5


def test_dates_of_an_interval_that_is_asked_for_are_those_of_its_scheduled_run(workshop: Workshop) -> None:
    dates = "'{{ ds }} {{ logical_date }}' = '2026-01-02 2026-01-02 00:00:00'"
    workshop.add_model("churn", source={"query": f"SELECT id, a, b, c FROM customers WHERE {dates}"})
    assert main(["dispatch", "churn", "--interval", "2026-01-02", "2026-01-03"]) == 0
    assert len(workshop.predictions()) == 5


def test_an_interval_without_an_offset_is_in_the_models_time_zone(workshop: Workshop) -> None:
    workshop.add_model("churn", timezone="America/Sao_Paulo")
    assert main(["dispatch", "churn", "--interval", "2026-01-02", "2026-01-03T00:00:00Z"]) == 0
    (record,) = workshop.records()
    assert str(record.data_interval_start) == "2026-01-02 03:00:00+00:00"
    assert str(record.data_interval_end) == "2026-01-03 00:00:00+00:00"


def test_failed_dispatch_fails_the_command_with_one_clear_line(workshop: Workshop, capsys: Captured) -> None:
    workshop.add_model("churn", source={"query": "SELECT id, a, b FROM customers"})
    assert main(["dispatch", "churn"]) == 1
    assert capsys.readouterr().err.startswith("mlops: ")


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        ("2026-01-02", "2026-01-01", "before it starts"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00+14:00", "before it starts"),
        ("0001-01-01T00:00:00+14:00", "2026-01-01", "before the year 1"),
        ("2026-01-01", "9999-12-31T23:59:59-14:00", "after the year 9999"),
    ],
)
def test_an_interval_that_is_none_is_refused(
    workshop: Workshop, capsys: Captured, start: str, end: str, says: str
) -> None:
    assert main(["dispatch", "churn", "--interval", start, end]) == 1
    assert says in capsys.readouterr().err
    assert workshop.records() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["dispatch", "churn", "--limit", "0"],
        ["dispatch", "churn", "--limit", str(2**63)],
        ["serve", "--port", "65536"],
        ["serve", "--workers", "1001"],
        ["dispatch"],
        ["nonsense"],
        [],
    ],
)
def test_wrong_command_line_exits_with_two(workshop: Workshop, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2


def test_schema_is_the_published_one(workshop: Workshop, capsys: Captured) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == reference.json_schema()


def test_db_upgrade_is_harmless_when_repeated(workshop: Workshop, capsys: Captured) -> None:
    (workshop.folder / "events.db").unlink()
    assert main(["db", "current"]) == 1
    assert main(["db", "upgrade"]) == 0
    assert main(["db", "upgrade"]) == 0
    assert main(["db", "current"]) == 0
    assert "connection 'events'" in capsys.readouterr().out


def test_config_option_wins_over_the_environment(
    workshop: Workshop, tmp_path: Path, capsys: Captured
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("models: {}\n")
    assert main(["--config", str(other), "check"]) == 0
    assert "0 models OK" in capsys.readouterr().out


def test_missing_config_is_one_clear_line(workshop: Workshop, capsys: Captured) -> None:
    assert main(["--config", "nowhere.yaml", "check"]) == 1
    assert "nowhere.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["schema"], ["check"]])
def test_output_that_nobody_reads_ends_a_command_without_a_traceback(
    words: list[str], workshop: Workshop
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "mlops_plugin.cli", *words],
        cwd=workshop.folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "plugins"), **workshop.environment},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_folder_set_up_by_make_up_is_used_without_being_told(workshop: Workshop) -> None:
    local = workshop.folder / ".local"
    local.mkdir()
    lines = [f"export {name}='{value}'" for name, value in workshop.environment.items()]
    (local / "env").write_text("\n".join(lines) + "\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    done = subprocess.run(
        [sys.executable, "-m", "mlops_plugin.cli", "check"],
        cwd=workshop.folder,
        env={**clean, "PYTHONPATH": str(Path(__file__).parents[2] / "plugins")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1 models OK" in done.stdout


def test_a_connection_that_the_caller_gives_wins_over_the_remembered_one(workshop: Workshop) -> None:
    local = workshop.folder / ".local"
    local.mkdir()
    variables = {**workshop.environment, "AIRFLOW_CONN_SOURCE": f"sqlite:///{workshop.folder}/other.db"}
    (local / "env").write_text("".join(f"export {name}='{value}'\n" for name, value in variables.items()))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    for given, status in (({}, 1), ({"AIRFLOW_CONN_SOURCE": workshop.connections["source"]}, 0)):
        done = subprocess.run(
            [sys.executable, "-m", "mlops_plugin.cli", "check", "--connect"],
            cwd=workshop.folder,
            env={**clean, "PYTHONPATH": str(Path(__file__).parents[2] / "plugins"), **given},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout


def incremental(workshop: Workshop, **cursor: object) -> None:
    query = "SELECT id, a, b, c FROM customers"
    workshop.add_model("churn", source={"query": query, "cursor": {"column": "id", **cursor}})


def test_cursor_shows_the_mark_and_who_moved_it(workshop: Workshop, capsys: Captured) -> None:
    incremental(workshop, initial=2)
    workshop.add_model("whole")
    assert main(["cursor"]) == 0
    assert capsys.readouterr().out == "churn: id: no watermark yet; the first dispatch starts at 2\n"
    assert main(["dispatch", "churn"]) == 0
    capsys.readouterr()
    assert main(["cursor", "churn"]) == 0
    dispatch = workshop.records()[0]
    printed = capsys.readouterr().out
    assert printed.startswith("churn: id: read up to 5, since 2")
    assert printed.endswith(f"UTC, by dispatch {dispatch.dispatch_id}\n")


def test_cursor_is_set_and_reset_with_a_record_of_who_did_it(workshop: Workshop, capsys: Captured) -> None:
    incremental(workshop)
    assert main(["cursor", "churn", "--set", "4"]) == 0
    assert "id: read up to 4, since 2" in capsys.readouterr().out
    assert main(["dispatch", "churn"]) == 0
    assert [row["id"] for row in workshop.predictions()] == [4, 5]
    assert main(["cursor", "churn", "--reset"]) == 0
    capsys.readouterr()
    assert main(["cursor", "churn"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert re.search(r"before: id: read up to 4, since .* set by \w+", first)
    assert re.search(r"before: id: read up to 5, since .* by dispatch ", second)
    assert re.search(r"id: the next dispatch starts again at the first row, since .* set by \w+", third)
    assert main(["dispatch", "churn"]) == 0
    assert len(workshop.predictions()) == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["whole"], "models.whole: it has no source.cursor"),
        (["whole", "--reset"], "models.whole: it has no source.cursor"),
        (["chrn"], "did you mean 'churn'"),
        (
            ["churn", "--set", "yesterday"],
            "'yesterday' does not fit the cursor column, which holds values of",
        ),
    ],
)
def test_cursor_says_what_is_wrong(
    workshop: Workshop, capsys: Captured, arguments: list[str], says: str
) -> None:
    incremental(workshop)
    workshop.add_model("whole")
    assert main(["cursor", *arguments]) == 1
    assert says in capsys.readouterr().err


def test_cursor_is_changed_of_one_model_only(workshop: Workshop) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["cursor", "--reset"])
    assert exited.value.code == 2


def test_check_connect_looks_at_the_cursor_column(workshop: Workshop, capsys: Captured) -> None:
    incremental(workshop)
    assert main(["check", "--connect"]) == 0
    assert "ok    models.churn.source.cursor: the query's column 'id'" in capsys.readouterr().out
    incremental(workshop, column="a")
    assert main(["check", "--connect"]) == 1
    assert "'a' is of type double; a cursor is a timestamp" in capsys.readouterr().out


def test_asked_for_interval_is_read_instead_of_what_is_new(workshop: Workshop, capsys: Captured) -> None:
    incremental(workshop)
    assert main(["dispatch", "churn", "--interval", "2026-01-02", "2026-01-03"]) == 1
    assert "'id' holds integers" in capsys.readouterr().err
