"""Each kind of model of each library answers through the steps of a DAG as the library itself, to the bit."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mlops_plugin.events.records import Step
from support.native_models import as_queried
from support.parity_models import EXTENSIONS, KINDS, LEFT_OUT, LIBRARIES, ROWS, Case
from support.ways_in import WayIn, way_in
from support.workshop import Workshop

_STEPS: tuple[Step, ...] = ("collect", "log", "infer", "persist")
_TYPES = {"string": "VARCHAR(20)", "double": "DOUBLE PRECISION", "int64": "BIGINT"}


def _database(name: str, request: pytest.FixtureRequest, workshop: Workshop) -> WayIn:
    """A database of this kind as the workshop's source and sink."""
    way = way_in(name, request, workshop.folder)
    for connection in ("source", "sink"):
        workshop.connections[connection] = way.airflow_connection
    return way


def _fill(way: WayIn, rows: pd.DataFrame) -> None:
    queried = as_queried(rows)
    columns = ", ".join(f"{field.name} {_TYPES[str(field.type)]}" for field in queried.schema)
    way.execute(f"CREATE TABLE shop (id BIGINT PRIMARY KEY, {columns})")
    way.fill("shop", [(number, *row.values()) for number, row in enumerate(queried.to_pylist())])


def _found(workshop: Workshop, way: WayIn, name: str, case: Case) -> list[list[object]]:
    """What is in the sink after a dispatch, by columns."""
    model = {**case.entry, "isolation": "none"}
    source = {"query": "SELECT * FROM shop ORDER BY id"}
    workshop.add_model(name, model=model, source=source, features=case.features and list(case.features))
    with workshop.entered():
        workshop.run_steps(workshop.dispatch(name), *_STEPS)
        with way.open() as database:
            described = database.describe(f"SELECT * FROM {name}_predictions").names
    columns = [column for column in described if column.startswith(("prediction", "probability_"))]
    listed = ", ".join(way.quoted(column) for column in columns)
    rows = way.rows(f"SELECT {listed} FROM {name}_predictions ORDER BY id")
    return [list(column) for column in zip(*rows, strict=True)]


def _differing(workshop: Workshop, way: WayIn, library: str, rows: str, kinds: tuple[str, ...]) -> list[str]:
    wrong = []
    for number, kind in enumerate(kind for kind in kinds if (library, kind) not in LEFT_OUT):
        name = f"m{number}"
        path: Path = workshop.folder / f"{name}.{EXTENSIONS[library]}"
        case = LIBRARIES[library](kind, ROWS[rows], path)
        if number == 0:
            _fill(way, case.rows)
        if _found(workshop, way, name, case) != case.answers:
            wrong.append(kind)
    return wrong


@pytest.mark.parametrize("library", LIBRARIES)
def test_texts_missing_values_and_categories_are_answered_over_mariadb(
    library: str, workshop: Workshop, request: pytest.FixtureRequest
) -> None:
    way = _database("odbc-mariadb", request, workshop)
    assert _differing(workshop, way, library, "mixed", ("three texts",)) == []


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the libraries, about so few rows of a class
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("engine", ["sqlite", "odbc-mariadb"])
def test_every_kind_of_model_is_answered(
    library: str, rows: str, engine: str, workshop: Workshop, request: pytest.FixtureRequest
) -> None:
    way = _database(engine, request, workshop)
    assert _differing(workshop, way, library, rows, KINDS) == []
