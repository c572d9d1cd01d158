"""What a database says against a query: the user's own line of it, on every way in, and no SQL of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_plugin.config.loader import load_config
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.database import Database
from mlops_plugin.errors import DatabaseError
from mlops_plugin.pipeline.reading.query_failure import query_errors
from support.ways_in import WayIn

_MODEL = """\
models:
  churn:
    key: [id]
    model: {{format: skops, uri: churn.skops}}
    sink: {{connection: way, table: predictions}}
    source:
      connection: way
      query: {query}
"""
_FIRST_LINE = 9  # of a literal block in this file


def configured(folder: Path, query: str) -> ModelConfig:
    (folder / "config.yaml").write_text(_MODEL.format(query=query))
    return load_config(folder / "config.yaml").config.models["churn"]


def block(query: str) -> str:
    return "|\n" + "".join(f"        {line}\n" for line in query.split("\n"))


def ask(database: Database, model: ModelConfig, doing: str) -> None:
    with query_errors(model, model.source.query):
        if doing == "describe":
            database.describe(model.source.query)
        else:
            database.read(model.source.query, batch_rows=10).read_all()


MISTAKES = [
    ("SELECT id, 'nowhere else' AS b\nFROM nowhere", "FROM nowhere", "nowhere"),
    ("SELECT id,\n  b,\n  cc AS c\nFROM customers", "cc AS c", "cc"),
    ("SELECT id,\n  b\nFROMX customers", "FROMX customers", "customers"),
    ("SELECT id,\n  nofunc(b) AS b\nFROM customers", "nofunc(b) AS b", "nofunc"),
    ("SELECT id,\n  b\nFROM customers\nGROUP BYE id", "GROUP BYE id", "BYE"),
]


@pytest.mark.parametrize("doing", ["describe", "read"])
def test_a_mistake_is_told_with_the_line_of_the_file(way: WayIn, tmp_path: Path, doing: str) -> None:
    way.execute("CREATE TABLE customers (id INTEGER, b INTEGER)")
    for query, line, word in MISTAKES:
        model = configured(tmp_path, block(query))
        with way.open() as database, pytest.raises(DatabaseError) as raised:
            ask(database, model, doing)
        place = _FIRST_LINE + [text.strip() for text in query.split("\n")].index(line)
        said = str(raised.value)
        assert f"config.yaml:{place}: {line}" in said
        assert word in said
        for ours in ("SELECT * FROM (", "described", "LIMIT 0", "LINE ", " at line "):
            assert ours not in said, said
        assert isinstance(raised.value.__cause__, DatabaseError)


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("SELECT id FROM nowhere", "config.yaml:8: SELECT id FROM nowhere"),
        ('"SELECT id FROM nowhere"', "config.yaml:8: SELECT id FROM nowhere"),
        (">\n        SELECT id\n        FROM nowhere", "line 1 of source.query: SELECT id FROM nowhere"),
        ("SELECT id\n        FROM nowhere", "line 1 of source.query: SELECT id FROM nowhere"),
    ],
)
def test_a_line_of_the_file_is_named_only_if_it_is_certain(tmp_path: Path, query: str, place: str) -> None:
    model = configured(tmp_path, query)
    refused = DatabaseError("way", "running the query", "no such table: nowhere")
    with pytest.raises(DatabaseError) as raised, query_errors(model, model.source.query.strip()):
        raise refused
    assert str(raised.value).endswith(place)


def test_a_line_that_the_template_has_made_is_not_looked_for_in_the_file(tmp_path: Path) -> None:
    model = configured(tmp_path, block("SELECT id\nFROM {{ table }}"))
    with pytest.raises(DatabaseError) as raised, query_errors(model, "SELECT id\nFROM nowhere"):
        raise DatabaseError("way", "running the query", "no such table: nowhere")
    assert str(raised.value).endswith("line 2 of source.query: FROM nowhere")


def test_each_line_with_the_word_is_named(tmp_path: Path) -> None:
    model = configured(tmp_path, block("SELECT id\nFROM nowhere\nWHERE nowhere.id > 1"))
    with pytest.raises(DatabaseError) as raised, query_errors(model, model.source.query):
        raise DatabaseError("way", "running the query", "no such table: nowhere")
    assert "config.yaml:10: FROM nowhere; " in str(raised.value)
    assert "config.yaml:11: WHERE nowhere.id > 1" in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        DatabaseError("way", "connecting", "no such table: nowhere"),
        DatabaseError("another", "running the query", "no such table: nowhere"),
    ],
)
def test_what_is_not_about_the_query_stays_as_it_is(tmp_path: Path, error: DatabaseError) -> None:
    model = configured(tmp_path, block("SELECT id\nFROM nowhere"))
    with pytest.raises(DatabaseError) as raised, query_errors(model, model.source.query):
        raise error
    assert raised.value is error
