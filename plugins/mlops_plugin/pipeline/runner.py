"""Runs steps for whoever opened the door (a task, the terminal, the Showroom) and records what happens.

The only place that opens sources, sinks, models and the event store for a dispatch.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import asdict

import pyarrow as pa

from mlops_plugin.databases.selection import narrowed, shown
from mlops_plugin.errors import StagingError
from mlops_plugin.events.records import LogEntry, Step
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline import steps
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.dispatch import PARTITIONED, STEPS, Dispatch
from mlops_plugin.pipeline.infer_report import infer_report
from mlops_plugin.pipeline.reading.increment import increment_of, move_mark_behind
from mlops_plugin.pipeline.reading.partitions import ALL_ROWS, plan_partitions
from mlops_plugin.pipeline.rendering import without_secrets
from mlops_plugin.pipeline.staging.notes import Collected, increment_note, planned_partition
from mlops_plugin.pipeline.staging.shelf import OnRows, Shelf, unheard
from mlops_plugin.pipeline.step_record import ONLY_TRY, Attempt, Counted, recorded

_log = logging.getLogger(__name__)

_ACCOUNTS = ("collected", "predicted", "rejected", "persisted")


def run_step(
    step: Step,
    dispatch: Dispatch,
    deployment: Deployment,
    *,
    query: Callable[[], str] | None = None,
    attempt: Attempt = ONLY_TRY,
    on_rows: OnRows = unheard,
) -> Counted:
    """Run one step and record its start and its end in the event store.

    `query` gives the rendered SQL, for `collect`; `on_rows` hears of every batch that the step has done.
    Errors are recorded, then raised again unchanged.
    """
    shelf = deployment.staging.shelf(dispatch.model.name, dispatch.id, on_rows)
    if attempt.partition is not None:
        shelf = shelf.of_partition(attempt.partition)
    started = time.monotonic()
    with deployment.event_store() as store:

        def work() -> Counted:
            match step:
                case "plan":
                    return _plan(dispatch, deployment, shelf, query)
                case "collect":
                    return _collect(dispatch, deployment, store, shelf, query)
                case "log":
                    return _log_dispatch(dispatch, store, shelf)
                case "infer":
                    return _infer(dispatch, shelf)
                case "persist":
                    return _persist(dispatch, deployment, store, shelf)

        with recorded(step, dispatch, store, attempt) as report:
            report(_interruptible(work))
        _log.info("%s in %.2f s", _in_words(step, report.counted), time.monotonic() - started)
        if step == "persist":
            store.finish(dispatch.id, **{name: report.counted[name] for name in _ACCOUNTS})
            _clean(shelf)
    return report.counted


def run_dispatch(
    dispatch: Dispatch,
    deployment: Deployment,
    query: Callable[[], str],
    watch: Callable[[Step], contextlib.AbstractContextManager[OnRows]],
) -> dict[Step, Counted]:
    """Run all four steps in this process; `watch` is entered for each and hears of its rows.

    Returns what each step, or its last partition, counted.
    """
    parts: list[int | None] = [None]
    if dispatch.model.source.partitions is not None:
        planned = run_step("plan", dispatch, deployment, query=query)
        parts = list(range(len(planned["partitions"])))
    done: dict[Step, Counted] = {}
    for step in STEPS:
        with watch(step) as on_rows:
            for part in parts if step in PARTITIONED else [None]:
                attempt = Attempt(partition=part)
                done[step] = run_step(
                    step, dispatch, deployment, query=query, attempt=attempt, on_rows=on_rows
                )
    return done


def _interruptible(work: Callable[[], Counted]) -> Counted:
    """Do the work in a thread of its own, so that a timeout or a signal ends the step at once.

    Python hears of signals in the main thread, and there only between two of its own instructions: a driver
    that waits for a server would keep it deaf. An abandoned thread ends with the process.
    """
    outcome: Future[Counted] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            outcome.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True, name="step").start()
    return outcome.result()


def _collect(
    dispatch: Dispatch,
    deployment: Deployment,
    store: EventStore,
    shelf: Shelf,
    query: Callable[[], str] | None,
) -> Counted:
    if query is None:
        raise ValueError("`collect` needs a query")
    if shelf.partition is None:
        deployment.staging.sweep()
    source, rendered = dispatch.model.source, query()
    planned, partition = (None, ALL_ROWS) if shelf.partition is None else planned_partition(shelf)
    database = deployment.database(source.connection, max_text_bytes=source.max_text_bytes)
    with contextlib.closing(database):
        increment = None if dispatch.is_quarantined else increment_of(dispatch, store, database, rendered)
        conditions = [*partition.conditions, *(increment.conditions if increment else ())]
        statement, parameters = narrowed(rendered, conditions, database.engine.name)
        ran = shown(without_secrets(statement), parameters)
        if source.pages is None:
            rows = database.read(statement, batch_rows=source.batch_rows, parameters=parameters)
        else:
            from mlops_plugin.pipeline.reading.pages import read_in_pages

            path = f"models.{dispatch.model.name}.source.pages"
            rows = read_in_pages(database, rendered, conditions, source.pages, path, source.batch_rows)
            ran += f"\n-- in pages of about {source.pages.rows} rows by {source.pages.column}"
        if dispatch.is_quarantined:
            from mlops_plugin.pipeline.validation.quarantine import Quarantine, only_with_keys

            keys = Quarantine(dispatch.model, dispatch.id, deployment).keys()
            rows = only_with_keys(rows, dispatch.model.key, keys)
            ran += f"\n-- only the rows of {len(keys)} quarantined keys"
        elif increment and increment.skipped_artifact and dispatch.model.may_reject:
            from mlops_plugin.pipeline.validation.quarantine import Quarantine, judgement, without_keys

            judged_by = judgement(dispatch.model, increment.skipped_artifact)
            keys = Quarantine(dispatch.model, dispatch.id, deployment).keys_judged_by(judged_by)
            rows = without_keys(rows, dispatch.model.key, keys)
            ran += f"\n-- without the rows of {len(keys)} quarantined keys"
        collected = steps.collect(dispatch, ran, rows, shelf, increment=increment, planned=planned)
    counted: Counted = {"rows": collected.rows}
    if planned is not None:
        counted["partition"] = partition.name
    if collected.increment:
        counted["increment"] = collected.increment
    return counted


def _plan(
    dispatch: Dispatch, deployment: Deployment, shelf: Shelf, query: Callable[[], str] | None
) -> Counted:
    source = dispatch.model.source
    if query is None or source.partitions is None:
        raise ValueError("`plan` needs a query and partitions")
    deployment.staging.sweep()
    rendered, path = query(), f"models.{dispatch.model.name}.source.partitions"
    partitions = [ALL_ROWS]
    if dispatch.row_limit is None:  # a limit is for the dispatch, not for each partition
        database = deployment.database(source.connection, max_text_bytes=source.max_text_bytes)
        with contextlib.closing(database):
            partitions = plan_partitions(database, rendered, source.partitions, path)
    steps.plan(without_secrets(rendered), partitions, shelf)
    numbered = [{"number": number, "name": part.name} for number, part in enumerate(partitions)]
    return {"rows": None, "partitions": numbered}


def _log_dispatch(dispatch: Dispatch, store: EventStore, shelf: Shelf) -> Counted:
    from mlops_plugin.formats.artifact import artifact_sha256

    sha256 = artifact_sha256(dispatch.model.model.uri)
    entry = log_entry(dispatch, steps.log(dispatch, sha256, shelf), sha256)
    store.log(dispatch.id, entry)
    return {"rows": entry.rows, "artifact_sha256": sha256, "config_sha256": entry.config_sha256}


def log_entry(dispatch: Dispatch, collected: Collected, sha256: str) -> LogEntry:
    """What the event store keeps of collected rows; `sha256` is the artifact's."""
    model = dispatch.model
    return LogEntry(
        rows=collected.rows,
        columns=collected.columns,
        first_key=collected.first_key,
        last_key=collected.last_key,
        artifact_sha256=sha256,
        artifact_uri=model.model.uri,
        config_sha256=model.config_hash(),
        query=collected.query,
    )


def _infer(dispatch: Dispatch, shelf: Shelf) -> Counted:
    from mlops_plugin.formats.runtime import load_runtime

    runtime = load_runtime(dispatch.model.model, features=dispatch.model.features)
    predicted = steps.infer(dispatch, runtime, shelf)
    return infer_report(predicted)


def _persist(dispatch: Dispatch, deployment: Deployment, store: EventStore, shelf: Shelf) -> Counted:
    from mlops_plugin.databases.sink.write_request import WriteRequest
    from mlops_plugin.databases.sink.writer import write_predictions
    from mlops_plugin.pipeline.validation.quarantine import Quarantine

    sink = dispatch.model.sink

    def write(batches: pa.RecordBatchReader) -> int:
        with contextlib.closing(deployment.database(sink.connection)) as database:
            watched = pa.RecordBatchReader.from_batches(batches.schema, _heard(batches, shelf.on_rows))
            request = WriteRequest(
                sink,
                dispatch.model.key,
                dispatch.id,
                is_searched_by_key=dispatch.model.source.skip_predicted,
            )
            return write_predictions(database, request, watched).persisted

    is_stored = not dispatch.is_dry_run
    quarantine = None
    if is_stored and (dispatch.model.may_reject or dispatch.is_quarantined):
        quarantine = Quarantine(dispatch.model, dispatch.id, deployment)
    on_counted = None
    if dispatch.model.source.partitions is not None:

        def on_counted(predicted: int, rejected: int) -> None:
            store.partitions_counted(dispatch.id, predicted=predicted, rejected=rejected)

    accounts = steps.persist(dispatch, write if is_stored else None, shelf, quarantine, on_counted)
    # Only now: a dispatch that dies before this line reads the same rows again.
    mark = move_mark_behind(dispatch, store, increment_note(dispatch.model, shelf))
    return {
        "rows": accounts.persisted,
        **asdict(accounts),
        "connection": sink.connection,
        "table": sink.table,
        **({"mark": mark.value} if mark else {}),
    }


def _heard(batches: Iterable[pa.RecordBatch], on_rows: OnRows) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        on_rows(batch.num_rows)


def _in_words(step: Step, counted: Counted) -> str:
    if counted["rows"] is None:
        return f"{step}: {len(counted['partitions'])} partitions"
    return f"{step}: {counted['rows']} rows"


def _clean(shelf: Shelf) -> None:
    try:
        shelf.remove_rows()
    except StagingError as error:
        # The predictions are safe in the sink; what is left here is swept by age.
        _log.warning("%s", error)
