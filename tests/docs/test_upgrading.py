"""docs/upgrading.md: its commands migrate an installation of 0.1 and name what it must change."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
from pathlib import Path

import pytest

from mlops_plugin.cli import main
from mlops_plugin.config.reference import json_schema
from mlops_plugin.events.migrating import current, upgrade
from mlops_plugin.events.tables import SCHEMA_VERSION
from support.workshop import Workshop

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "upgrading.md"
TABLES_OF_0_1 = "0007"
_OLD_DISPATCH = (
    "INSERT INTO mlops_dispatch (dispatch_id, model, origin, dry_run, state, created_at, updated_at, tries,"
    " rows_collected, rows_predicted, rows_rejected, rows_persisted) VALUES ('old', 'churn', 'manual', 0,"
    " 'succeeded', '2026-01-02 03:04:05', '2026-01-02 03:04:05', 1, 5, 4, 1, 4)"
)


@pytest.fixture
def installation(workshop: Workshop) -> Workshop:
    """As 0.1 left it: tables of then, with a dispatch, and queries that it accepted."""
    (workshop.folder / "events.db").unlink()
    with workshop.deployment.event_store() as store:
        upgrade(store.address, TABLES_OF_0_1)
    with sqlite3.connect(workshop.folder / "events.db") as events:
        events.execute(_OLD_DISPATCH)
    events.close()
    workshop.in_source(
        "ALTER TABLE customers ADD COLUMN seen TEXT", "UPDATE customers SET seen = '2026-01-31T06'"
    )
    columns = "SELECT id, a, b, c FROM customers"
    workshop.add_model("limited", source={"query": f"{columns} LIMIT 2", "cursor": {"column": "id"}})
    workshop.add_model("timed", source={"query": f"{columns} WHERE seen < '{{{{ data_interval_end }}}}'"})
    workshop.in_sink(
        "CREATE TABLE unordered_predictions (id INTEGER PRIMARY KEY, prediction TEXT,"
        " probability_leaves REAL, probability_stays REAL, dispatch_id TEXT, model TEXT,"
        " artifact_sha256 TEXT, predicted_at TEXT)"
    )
    workshop.add_model("unordered", sink={"create": False})
    return workshop


def commands() -> list[list[str]]:
    """Those of the page's blocks, without the name of the program."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]


def test_the_commands_migrate_and_name_what_must_change(
    installation: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands() == [["db", "upgrade"], ["check", "--connect"]]
    statuses = [main(command) for command in commands()]
    printed = capsys.readouterr().out
    assert statuses == [0, 1], printed
    with installation.deployment.event_store() as store:
        assert current(store.address) == SCHEMA_VERSION
        old = store.get("old")
    assert old is not None
    assert old.rows_persisted == 4
    assert "1 of 4 models OK" in printed
    for model, named in {"limited": "LIMIT 2", "timed": "seen", "unordered": "mlops_dispatches"}.items():
        assert re.search(rf"models\.{model}\..*{named}", printed, re.DOTALL), printed
    assert main(["dispatch", "churn"]) == 0
    assert len(installation.predictions()) == 5


def test_every_key_of_the_version_before_is_still_one() -> None:
    before = json.loads(PAGE.parents[1].joinpath("tests", "docs", "keys_of_0_1.json").read_text())
    schema = json_schema()
    now = {"Config": schema, **schema["$defs"]}
    assert len(before) > 15
    gone = {name: set(part["keys"]) - now[name]["properties"].keys() for name, part in before.items()}
    asked = {
        name: set(now[name].get("required", ())) - set(part["required"]) for name, part in before.items()
    }
    assert {name: keys for name, keys in gone.items() if keys} == {}
    assert {name: keys for name, keys in asked.items() if keys} == {}
