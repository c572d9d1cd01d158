"""Tries everything a model's dispatch will need, without dispatching: `mlops check --connect`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig, PagesConfig, PartitionsConfig
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.selection import narrowed
from mlops_plugin.errors import KeyColumnError, MlopsError
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.reading.increment import check_column
from mlops_plugin.pipeline.reading.pages import plan_pages
from mlops_plugin.pipeline.reading.partitions import plan_partitions
from mlops_plugin.pipeline.reading.query_check import require_usable


@dataclass(frozen=True)
class Finding:
    """One thing that was tried; `problem` is None where it is sound."""

    subject: str  # e.g. models.churn.source
    tried: str  # e.g. the query on connection 'warehouse'
    problem: str | None = None


def inspect_events(deployment: Deployment) -> Finding:
    """Open the event store and read from it."""
    tried = "the event store"
    try:
        with deployment.event_store() as store:
            store.dispatches(limit=1)
    except MlopsError as error:
        return Finding("events", tried, str(error))
    return Finding("events", tried)


def inspect_model(
    model: ModelConfig, deployment: Deployment, render: Callable[[ModelConfig], str]
) -> Iterator[Finding]:
    """Load the artifact, prepare the query, compare its columns with contract and model, look at tables."""
    from mlops_plugin.formats.runtime import load_runtime

    name = f"models.{model.name}"
    found: dict[str, MlopsError] = {}
    with _problem(found, "model"):
        runtime = load_runtime(model.model, features=model.features)
    yield _finding(found, name, "model", f"loading {model.model.uri}")

    with _problem(found, "source"):
        rows, engine = _describe(model, deployment, render)
    tried = f"the query on connection '{model.source.connection}'"
    if "source" not in found and engine.is_experimental:
        tried += f" ({engine.name} is experimental: its SQL was never run on a real server)"
    yield _finding(found, name, "source", tried)

    cursor = model.source.cursor
    if cursor is not None and "source" not in found:
        with _problem(found, "source.cursor"):
            check_column(model, cursor, rows, engine)
        yield _finding(found, name, "source.cursor", f"the query's column '{cursor.column}'")

    if model.source.pages is not None and "source" not in found:
        with _problem(found, "source.pages"):
            _plan_pages(model, model.source.pages, deployment, render(model))
        yield _finding(found, name, "source.pages", "dividing the query's rows, and one snapshot for all")

    if model.source.partitions is not None and "source" not in found:
        with _problem(found, "source.partitions"):
            partitions = _plan(model, model.source.partitions, deployment, render(model))
        tried = (
            "dividing the query's rows" if found else f"dividing the query's rows: {partitions} partitions"
        )
        yield _finding(found, name, "source.partitions", tried)

    if found:
        return
    checked = rows
    if model.input is not None:
        with _problem(found, "input"):
            checked = _as_checked(model, rows, runtime.artifact_sha256)
        yield _finding(found, name, "input", f"the contract against the query's {len(rows)} columns")
    with _problem(found, "features"):
        runtime.check(checked)
    yield _finding(
        found, name, "features", f"the query's columns against the model's {len(runtime.features)}"
    )
    with _problem(found, "sink"):
        _look_at_sink(model, deployment, rows, runtime.outputs)
    yield _finding(found, name, "sink", f"table {model.sink.table} on connection '{model.sink.connection}'")
    with _problem(found, "sink.order"):
        _look_at_order(model, deployment)
    if "sink.order" in found:  # only worth a line if it weakens a promise
        yield _finding(found, name, "sink.order", "keeping older dispatches from newer predictions")
    if model.may_reject:
        sink = model.quarantine_sink
        with _problem(found, "quarantine"):
            _look_at_quarantine(model, deployment, rows)
        yield _finding(found, name, "quarantine", f"table {sink.table} on connection '{sink.connection}'")


def _as_checked(model: ModelConfig, rows: pa.Schema, artifact_sha256: str) -> pa.Schema:
    """The columns as the contract hands them to the model."""
    from mlops_plugin.pipeline.validation.contract import Contract

    contract = Contract.of(model)
    if contract is None:
        return rows
    contract.require_made_for(artifact_sha256)
    return contract.bind(rows).schema_of(rows)


def _describe(
    model: ModelConfig, deployment: Deployment, render: Callable[[ModelConfig], str]
) -> tuple[pa.Schema, Engine]:
    """What the query returns, and the source's engine."""
    query = render(model)
    with contextlib.closing(deployment.source(model)) as database:
        require_usable(model, query, database.engine.name)
        rows = database.describe(query)
    missing = [column for column in model.key if column not in rows.names]
    if missing:
        raise KeyColumnError(
            f"the query returns no key column {', '.join(missing)}; it returns {', '.join(rows.names)}"
        )
    return rows, database.engine


def _plan(model: ModelConfig, wanted: PartitionsConfig, deployment: Deployment, query: str) -> int:
    """Plan the partitions, and prepare the query of each where their SQL is the configuration's own."""
    with contextlib.closing(deployment.source(model)) as database:
        partitions = plan_partitions(database, query, wanted, f"models.{model.name}.source.partitions")
        for partition in partitions if wanted.predicates else ():
            database.describe(narrowed(query, partition.conditions, database.engine.name)[0])
    return len(partitions)


def _plan_pages(model: ModelConfig, wanted: PagesConfig, deployment: Deployment, query: str) -> None:
    with contextlib.closing(deployment.source(model)) as database:
        plan_pages(database, query, (), wanted, f"models.{model.name}.source.pages")


def _look_at_sink(model: ModelConfig, deployment: Deployment, rows: pa.Schema, outputs: pa.Schema) -> None:
    from mlops_plugin.databases.sink.predictions_table import check_table
    from mlops_plugin.pipeline.provenance import predictions_schema

    schema = predictions_schema([rows.field(column) for column in model.key], outputs)
    with contextlib.closing(deployment.database(model.sink.connection)) as database:
        check_table(
            database,
            model.sink,
            key=model.key,
            schema=schema,
            is_searched_by_key=model.source.skip_predicted,
        )


def _look_at_order(model: ModelConfig, deployment: Deployment) -> None:
    from mlops_plugin.databases.sink.dispatches_table import DispatchesTable

    with contextlib.closing(deployment.database(model.sink.connection)) as database:
        DispatchesTable(database, model.sink).check()


def _look_at_quarantine(model: ModelConfig, deployment: Deployment, rows: pa.Schema) -> None:
    from mlops_plugin.databases.sink.predictions_table import check_table
    from mlops_plugin.pipeline.validation.quarantine import RECORD_NUMBER, quarantine_schema

    sink = model.quarantine_sink
    schema = quarantine_schema([rows.field(column) for column in model.key])
    with contextlib.closing(deployment.database(sink.connection)) as database:
        check_table(database, sink, key=[RECORD_NUMBER], schema=schema)


@contextlib.contextmanager
def _problem(found: dict[str, MlopsError], part: str) -> Iterator[None]:
    try:
        yield
    except MlopsError as error:
        found[part] = error


def _finding(found: dict[str, MlopsError], name: str, part: str, tried: str) -> Finding:
    problem = found.get(part)
    return Finding(f"{name}.{part}", tried, None if problem is None else str(problem))
