"""Tries everything a model's dispatch will need, without dispatching: `mlops check --connect`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig, PagesConfig, PartitionsConfig
from mlops_plugin.databases.engines.engine import Engine
from mlops_plugin.databases.selection import narrowed
from mlops_plugin.errors import DatabaseError, KeyColumnError, MlopsError
from mlops_plugin.events.marks import newest_mark
from mlops_plugin.formats.signature.signature import read_signature
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.first_rows import require_decided_input
from mlops_plugin.pipeline.golden_round_trip import verify_round_trip
from mlops_plugin.pipeline.reading.compared_times import require_comparable_times
from mlops_plugin.pipeline.reading.increment import check_column, undecided_start
from mlops_plugin.pipeline.reading.mark_scope import foreign_scope, scope_of
from mlops_plugin.pipeline.reading.pages import plan_pages
from mlops_plugin.pipeline.reading.partitions import plan_partitions
from mlops_plugin.pipeline.reading.query_check import require_usable
from mlops_plugin.pipeline.reading.query_failure import query_errors
from mlops_plugin.pipeline.reading.session_zone import zone_note
from mlops_plugin.pipeline.validation.signed_model import require_same_answers, require_signature_fits
from mlops_plugin.workers.isolation import StepModels
from mlops_plugin.workers.process import ModelProcess

if TYPE_CHECKING:
    from mlops_plugin.formats.runtime import Runtime
    from mlops_plugin.formats.signature.signature import Signature


@dataclass(frozen=True)
class Finding:
    """One thing that was tried; `problem` is None if it is sound, `note` is worth knowing all the same."""

    subject: str  # e.g. models.churn.source
    tried: str  # e.g. the query on connection 'warehouse'
    problem: str | None = None
    note: str | None = None


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
    model: ModelConfig,
    deployment: Deployment,
    render: Callable[[ModelConfig], str],
    *,
    is_round_trip: bool = False,
) -> Iterator[Finding]:
    """Load the artifact, prepare the query, compare its columns with contract and model, look at tables.

    `is_round_trip`: also send golden rows through a temporary table of the source.
    """
    with contextlib.closing(StepModels(must_be_confined=deployment.requires_confinement)) as models:
        yield from _findings(model, deployment, render, models, is_round_trip=is_round_trip)


def _findings(
    model: ModelConfig,
    deployment: Deployment,
    render: Callable[[ModelConfig], str],
    models: StepModels,
    *,
    is_round_trip: bool,
) -> Iterator[Finding]:
    name = f"models.{model.name}"
    found: dict[str, str] = {}
    with _problem(found, "model"):
        runtime = models.load(model)
        model = models.of_version(model)
        signature = read_signature(model.model)
    yield _finding(found, name, "model", f"loading {model.model.uri}")
    if "model" not in found:
        yield _isolation(model, runtime)
        yield from _own_environment(model, runtime)

    with _problem(found, "source"):
        rows, engine, zone = _describe(model, deployment, render)
    tried = f"the query on connection '{model.source.connection}'"
    if "source" not in found and engine.is_experimental:
        tried += f" ({engine.name} is experimental: its SQL has not been tested on a real server)"
    yield _finding(found, name, "source", tried)
    if "source" not in found and zone is not None:
        yield Finding(f"{name}.source", "the time zone of the query", note=zone)

    cursor = model.source.cursor
    if cursor is not None and "source" not in found:
        with _problem(found, "source.cursor"):
            check_column(model, cursor, rows, engine)
        yield _finding(found, name, "source.cursor", f"the query's column '{cursor.column}'")
        yield from _foreign_mark(model, deployment)

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

    if "model" not in found:
        with _problem(found, "signature"):
            _ask_golden_rows(model, runtime, signature)
        yield from _signature_findings(found, model, runtime, signature)

    if found:
        return
    checked = rows
    if model.input is not None:
        with _problem(found, "input"):
            checked = _as_checked(model, rows, runtime.artifact_sha256)
        yield _finding(found, name, "input", f"the contract against the query's {len(rows)} columns")
    with _problem(found, "features"):
        require_signature_fits(model, checked)
        runtime.check(checked)
        require_same_answers(model, runtime, checked)
        require_decided_input(model, deployment, render(model), runtime)
    yield _finding(
        found, name, "features", f"the query's columns against the model's {len(runtime.features)}"
    )
    if is_round_trip and signature is not None:
        went = 0
        with _problem(found, "round_trip"):
            went = verify_round_trip(model, deployment, render(model), runtime, signature)
        tried = f"{went} of {len(signature.golden.rows)} golden rows through a temporary table"
        yield _finding(found, name, "round_trip", tried)
    with _problem(found, "sink"):
        _inspect_sink(model, deployment, rows, runtime.outputs)
    yield _finding(found, name, "sink", f"table {model.sink.table} on connection '{model.sink.connection}'")
    with _problem(found, "sink.order"):
        _inspect_order(model, deployment)
    if "sink.order" in found:  # only worth a line if it weakens a promise
        yield _finding(found, name, "sink.order", "protecting newer predictions from older dispatches")
    if model.may_reject:
        sink = model.quarantine_sink
        with _problem(found, "quarantine"):
            _inspect_quarantine(model, deployment, rows)
        yield _finding(found, name, "quarantine", f"table {sink.table} on connection '{sink.connection}'")


def _isolation(model: ModelConfig, runtime: Runtime) -> Finding:
    """Where the model runs, and what that keeps it from."""
    subject = f"models.{model.name}.model.isolation"
    if not isinstance(runtime, ModelProcess):
        return Finding(
            subject, "the model runs in the task's process", note=model.model.risk_without_isolation
        )
    missing = runtime.missing_confinement
    if not missing:
        return Finding(subject, f"the model runs in a process without {', '.join(runtime.confinement)}")
    note = f"this kernel cannot block: {', '.join(missing)}; serving.require_confinement refuses that"
    return Finding(subject, "the model runs in a separate process", note=note)


def _foreign_mark(model: ModelConfig, deployment: Deployment) -> Iterator[Finding]:
    """A watermark that another model of this name has left, or this one before it read something else."""
    with suppress(MlopsError), deployment.event_store() as store:  # the store has a finding of its own
        mark = newest_mark(store, model.name)
        if (
            mark is not None
            and mark.value is not None
            and (scope := foreign_scope(store, mark, scope_of(model))) is not None
        ):
            undecided = undecided_start(model, mark.value, scope)
            yield Finding(f"models.{model.name}.source.cursor", "the watermark", undecided)


def _own_environment(model: ModelConfig, runtime: Runtime) -> Iterator[Finding]:
    """With which libraries of its own the model runs, and whether they can be had again."""
    from mlops_plugin.environments.building import warnings_of
    from mlops_plugin.environments.location import Environment

    environment = Environment.of(model)
    if environment is None:
        return
    with_these = ", ".join(f"{name} {version}" for name, version in runtime.libraries.items())
    subject = f"models.{model.name}.model.environment"
    yield Finding(
        subject, f"the model runs with {with_these}", note="; ".join(warnings_of(environment)) or None
    )


def _ask_golden_rows(model: ModelConfig, runtime: Runtime, signature: Signature | None) -> None:
    """Ask them together and one by one."""
    if signature is not None:
        from mlops_plugin.formats.signature.comparison import verify

        verify(runtime, signature, tolerance=model.model.tolerance, each_alone=True)


def _signature_findings(
    found: dict[str, str], model: ModelConfig, runtime: Runtime, signature: Signature | None
) -> Iterator[Finding]:
    name = f"models.{model.name}"
    subject = f"{name}.signature"
    if signature is None:
        advice = f"write a signature to find out: write_signature in training, or mlops sign {model.name}"
        yield Finding(subject, "does the model answer as in training?", note=advice)
        return
    yield _finding(found, name, "signature", f"the answers to {len(signature.golden.rows)} golden rows")
    from mlops_plugin.formats.signature.comparison import not_compared
    from mlops_plugin.formats.signature.versions import changed_libraries

    for line in not_compared(signature):
        yield Finding(subject, "stable answers", note=line)
    for column in signature.input.columns:
        if column.also_missing:
            looks = ", ".join((str(column.missing), *column.also_missing))
            note = f"'{column.name}' was missing as {looks} in training; NULL becomes {column.missing}"
            yield Finding(subject, "missing values", note=note)
    if changed := changed_libraries(signature, runtime.packages):
        yield Finding(subject, "libraries", note=f"they differ from training: {', '.join(changed)}")


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
) -> tuple[pa.Schema, Engine, str | None]:
    """What the query returns, the source's engine, and what `zone_note` says."""
    query, note = render(model), None
    with contextlib.closing(deployment.source(model)) as database:
        require_usable(model, query, database.engine.name)
        with query_errors(model, query):
            rows = database.describe(query)
            require_comparable_times(model, database, query, at_any_moment=True)
        with suppress(DatabaseError):
            note = zone_note(database, query, rows)
    missing = [column for column in model.key if column not in rows.names]
    if missing:
        raise KeyColumnError(
            f"the query returns no key column {', '.join(missing)}; it returns {', '.join(rows.names)}"
        )
    return rows, database.engine, note


def _plan(model: ModelConfig, wanted: PartitionsConfig, deployment: Deployment, query: str) -> int:
    """Plan the partitions, and prepare the query of each where their SQL is the configuration's own."""
    with contextlib.closing(deployment.of_dispatch(model).source(model)) as database:
        partitions = plan_partitions(database, query, wanted, f"models.{model.name}.source.partitions")
        for partition in partitions if wanted.predicates else ():
            database.describe(narrowed(query, partition.conditions, database.engine.name)[0])
    return len(partitions)


def _plan_pages(model: ModelConfig, wanted: PagesConfig, deployment: Deployment, query: str) -> None:
    with contextlib.closing(deployment.of_dispatch(model).source(model)) as database:
        plan_pages(database, query, (), wanted, f"models.{model.name}.source.pages")


def _inspect_sink(model: ModelConfig, deployment: Deployment, rows: pa.Schema, outputs: pa.Schema) -> None:
    from mlops_plugin.databases.sink.predictions_table import check_table
    from mlops_plugin.databases.sink.rights import require_rights
    from mlops_plugin.pipeline.writing.provenance import predictions_schema

    schema = predictions_schema([rows.field(column) for column in model.key], outputs)
    with contextlib.closing(deployment.database(model.sink.connection)) as database:
        columns = check_table(
            database,
            model.sink,
            key=model.key,
            schema=schema,
            is_searched_by_key=model.source.skip_predicted,
        )
        require_rights(database, model.sink, model.key, exists=columns is not None)


def _inspect_order(model: ModelConfig, deployment: Deployment) -> None:
    from mlops_plugin.databases.sink.dispatches_table import DispatchesTable
    from mlops_plugin.databases.sink.rights import require_order_rights

    with contextlib.closing(deployment.database(model.sink.connection)) as database:
        DispatchesTable(database, model.sink).check()
        require_order_rights(database, model.sink)


def _inspect_quarantine(model: ModelConfig, deployment: Deployment, rows: pa.Schema) -> None:
    from mlops_plugin.databases.sink.predictions_table import check_table
    from mlops_plugin.databases.sink.rights import require_quarantine_rights
    from mlops_plugin.pipeline.validation.quarantine import RECORD_NUMBER, quarantine_schema

    sink = model.quarantine_sink
    schema = quarantine_schema([rows.field(column) for column in model.key])
    with contextlib.closing(deployment.database(sink.connection)) as database:
        columns = check_table(database, sink, key=[RECORD_NUMBER], schema=schema)
        require_quarantine_rights(database, sink, exists=columns is not None)


@contextlib.contextmanager
def _problem(found: dict[str, str], part: str) -> Iterator[None]:
    try:
        yield
    except MlopsError as error:
        found[part] = str(error)
    except Exception as error:  # noqa: BLE001 - this model's finding; the others are still looked at
        message = str(error).partition("\n")[0]
        found[part] = f"{type(error).__name__}: {message}" if message else type(error).__name__


def _finding(found: dict[str, str], name: str, part: str, tried: str) -> Finding:
    return Finding(f"{name}.{part}", tried, found.get(part))
