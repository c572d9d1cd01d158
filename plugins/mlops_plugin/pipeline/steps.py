"""The steps, each once: a DAG run's tasks, the terminal and the Showroom all run this code.

A step takes rows or a shelf and returns what it has left there. It opens nothing itself: `step_runner` passes
it a source, a model and a sink.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.sink.write_request import Order
from mlops_plugin.errors import AccountingError, ArtifactChanged, KeyColumnMissing, LimitRefused
from mlops_plugin.events.details.step_reports import Accounts
from mlops_plugin.formats.runtime import Runtime
from mlops_plugin.pipeline.accounting import accounted
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.distribution import Distribution
from mlops_plugin.pipeline.reading.answering import answered_by
from mlops_plugin.pipeline.reading.increment import Increment
from mlops_plugin.pipeline.reading.key_range import KeyRange
from mlops_plugin.pipeline.reading.partitions import Partition, PlannedQuery
from mlops_plugin.pipeline.staging.notes import (
    LoggedRows,
    all_collected,
    logged_rows,
    persisted_before,
    pinned_settings,
    put_note,
    put_persisted,
    require_predicted,
    sink_settings,
    source_settings,
)
from mlops_plugin.pipeline.staging.records import (
    Collected,
    ColumnType,
    Judge,
    Logged,
    Persisted,
    Planned,
    Predicted,
)
from mlops_plugin.pipeline.staging.shelf import Shelf, Staged
from mlops_plugin.pipeline.staging.staged_rows import predicted_rows, rejected_rows
from mlops_plugin.pipeline.validation.rejections import RejectedRows, Rejections, merged_reasons
from mlops_plugin.pipeline.validation.signed_model import require_signature_fits
from mlops_plugin.pipeline.validation.threshold import is_within_threshold, require_within_threshold
from mlops_plugin.pipeline.writing.provenance import with_provenance
from mlops_plugin.pipeline.writing.sinks import Predictions, Sink

_COLLECTED, _PREDICTED, _REJECTED = "collect", "infer", "rejected"  # files of rows on a shelf


def plan(
    dispatch: Dispatch,
    query: PlannedQuery,
    partitions: Sequence[Partition],
    shelf: Shelf,
    order: Order | None = None,
) -> Planned:
    """Pin the query, the partitions that `collect` and `infer` each take one of, and the dispatch's order."""
    stored = tuple(partition.stored() for partition in partitions)
    settings = source_settings(dispatch.model)
    planned = Planned(uuid.uuid4().hex, query.text, stored, order, settings, query.is_masked)
    put_note(planned, shelf)
    return planned


def collect(
    dispatch: Dispatch,
    query: str,
    rows: pa.RecordBatchReader,
    shelf: Shelf,
    *,
    increment: Increment | None = None,
    plan_id: str | None = None,
    order: Order | None = None,
    on_begun: Callable[[Collected, Staged], None] | None = None,
) -> Collected:
    """Stream the query's rows, or one partition's, onto the shelf.

    Raises `KeyColumnError` for a missing or NULL key. `increment` watches the rows if the model reads only a
    part of its query; `plan_id` is the plan that the partition belongs to; `order` is the dispatch's among
    those of its model. `on_begun` gets what is known before the first row is staged, and the growing file.
    """
    key, at = dispatch.model.key, datetime.now(UTC)
    require_collectable(dispatch, rows.schema)
    key_range = KeyRange(dispatch.model.name, key)
    see = [key_range.see, *([increment.see] if increment else [])]

    def collected_in(file: Staged, count: int = 0) -> Collected:
        return Collected(
            file=file.name,
            rows=count,
            query=query,
            columns=tuple(ColumnType(field.name, str(field.type)) for field in rows.schema),
            first_key=key_range.first,
            last_key=key_range.last,
            increment=increment.read() if increment else None,
            plan=plan_id,
            blocks=file.blocks,
            at=at.isoformat(),
            order=order,
            sink=sink_settings(dispatch.model),
        )

    on_file = None if on_begun is None else lambda file: on_begun(collected_in(file), file)
    batches = _seen(_limited(rows, dispatch.row_limit), see)
    collected = collected_in(*shelf.put(_COLLECTED, rows.schema, batches, on_file))
    put_note(collected, shelf)
    return collected


def require_collectable(dispatch: Dispatch, rows: pa.Schema) -> None:
    """Raise what is wrong with rows of this schema before the first is read."""
    model, sink = dispatch.model, dispatch.model.sink
    if dispatch.limits and sink.mode == "replace" and not dispatch.is_dry_run:
        raise LimitRefused(
            f"models.{model.name}: {sink.table} is written in mode replace: a dispatch of "
            f"{dispatch.limits} would delete all its other rows; make it a dry run, or remove the limit"
        )
    missing = [column for column in model.key if column not in rows.names]
    if missing:
        raise KeyColumnMissing(
            f"models.{model.name}.key: the query returns no column {_quoted(missing)}; it returns "
            f"{_quoted(rows.names)}; select the key or name another one"
        )
    checked = rows if model.input is None else require_contract_fits(model, rows)
    require_signature_fits(model, checked)


def require_contract_fits(model: ModelConfig, rows: pa.Schema) -> pa.Schema:
    """The columns as the model's `input:` converts them; raises `ContractError` if no row can meet it."""
    from mlops_plugin.pipeline.validation.contract import (
        Contract,  # it needs numpy, and most models have no contract
    )

    contract = Contract.of(model)
    return rows if contract is None else contract.bind(rows).schema_of(rows)


def log(dispatch: Dispatch, judge: Judge, shelf: Shelf) -> Collected:
    """Pin rows, artifact, signature and configuration for the steps that follow; returns the rows as one.

    Raises `ArtifactError` if rows were left out because of predictions by another artifact, `StagingError` if
    they were collected for another sink.
    """
    collected = all_collected(dispatch.model, shelf)
    require_artifact_of_skipped(dispatch, collected.whole, judge)
    files = tuple(part.file for part in collected.parts)
    logged = Logged(files, judge.artifact_sha256, pinned_settings(dispatch.model), collected.parts, judge)
    put_note(logged, shelf)
    return collected.whole


def require_artifact_of_skipped(dispatch: Dispatch, collected: Collected, judge: Judge) -> None:
    """Raise `ArtifactError` if rows were left out because of predictions by another model.

    By another artifact, or the same one with another signature or other settings.
    """
    skipped, artifact_sha256, model = collected.skipped_artifact, judge.artifact_sha256, dispatch.model
    answers = collected.skipped_answers
    if skipped == artifact_sha256 and answers is not None:
        if answers != answered_by(model, artifact_sha256, judge.input_sha256):
            raise ArtifactChanged(
                f"models.{model.name}.model: its signature, environment or settings changed after rows that "
                "it has predicted were left out; clear 'collect' and the tasks after it in Airflow"
            )
    elif skipped is not None and skipped != artifact_sha256:
        raise ArtifactChanged(
            f"models.{dispatch.model.name}.model: the artifact {dispatch.model.model.uri} changed after rows "
            f"with its predictions were left out (sha256 {skipped[:12]}..., now "
            f"{artifact_sha256[:12]}...); clear 'collect' and the tasks after it in Airflow"
        )


def infer(
    dispatch: Dispatch,
    runtime: Runtime,
    shelf: Shelf,
    on_checked: Callable[[pa.Schema], None] | None = None,
    *,
    logged: LoggedRows | None = None,
    on_begun: Callable[[datetime, Staged], None] | None = None,
) -> Predicted:
    """Stream the logged rows, or one partition's, through the model; each is predicted or rejected.

    `on_checked` hears before the first row which columns the model is asked with, and may raise. `logged` is
    given if the rows are still being collected, and `on_begun` gets the time of the predictions before the
    first is staged, and the growing file. Raises `ArtifactError` or `StagingError` if artifact, rows or
    configuration are not those logged, and `ContractError` if `input:` or `output:` end the dispatch.
    """
    logged = logged_rows(dispatch.model, shelf) if logged is None else logged
    _require_same_judge(dispatch.model, logged, runtime)
    predicted = _predict(dispatch, runtime, logged, shelf, on_checked, on_begun)
    collected = logged.complete()
    if predicted.rows + predicted.rejected != collected.rows:
        raise AccountingError(
            f"models.{dispatch.model.name}: {collected.rows} rows were collected, but {predicted.rows} were "
            f"predicted and {predicted.rejected} rejected"
        )
    put_note(predicted, shelf)
    return predicted


def _require_same_judge(model: ModelConfig, logged: LoggedRows, runtime: Runtime) -> None:
    """Raise `ArtifactChanged` if the model, or the signature by which it reads, is not the logged one."""
    changed, before, now = "", logged.artifact_sha256, runtime.artifact_sha256
    if before != now:
        changed = f"artifact {model.model.uri}"
    elif logged.judge is not None and logged.judge.signature_sha256 != runtime.signature_sha256:
        changed = f"signature beside {model.model.uri}"
        before, now = logged.judge.signature_sha256 or "none", runtime.signature_sha256 or "none"
    if changed:
        raise ArtifactChanged(
            f"models.{model.name}.model: the {changed} changed after it was logged (sha256 "
            f"{before[:12]}..., now {now[:12]}...); clear 'log' and the tasks after it in Airflow to "
            "dispatch "
            "with the new one"
        )


def _predict(
    dispatch: Dispatch,
    runtime: Runtime,
    logged: LoggedRows,
    shelf: Shelf,
    on_checked: Callable[[pa.Schema], None] | None,
    on_begun: Callable[[datetime, Staged], None] | None,
) -> Predicted:
    from mlops_plugin.pipeline.validation.learning import learn_outputs
    from mlops_plugin.pipeline.validation.screening import Rules, Screening

    key = dispatch.model.key
    with shelf.rows(logged.staged) as rows:
        batches = learn_outputs(dispatch.model, runtime, rows)
        key_fields = [rows.schema.field(column) for column in key]
        schema = pa.schema([*key_fields, *runtime.outputs])
        distribution = Distribution(runtime.outputs.field(0).type)
        with Rejections(key_fields) as rejections:
            rules = Rules.of(dispatch.model, runtime, rows.schema)
            screening = Screening(dispatch.model, runtime, rules, rejections)
            if on_checked is not None:
                on_checked(screening.checked(rows.schema))

            def predictions() -> Iterator[pa.RecordBatch]:
                for kept, predicted in screening.predict_all(batches):
                    distribution.see(predicted.column(0))
                    columns = [*kept.select(list(key)).columns, *predicted.columns]
                    yield pa.RecordBatch.from_arrays(columns, schema=schema)

            at = datetime.now(UTC)
            on_file = None if on_begun is None else functools.partial(on_begun, at)
            file, count = shelf.put(_PREDICTED, schema, predictions(), on_file)
            records = judged_by = None
            if rejections.rows and dispatch.model.source.skip_predicted:
                from mlops_plugin.pipeline.validation.quarantine import judgement

                signed = None if logged.judge is None else logged.judge.input_sha256
                judged_by = judgement(dispatch.model, runtime.artifact_sha256, signed, rules.baseline)
            if rejections.rows:
                records, _ = shelf.unheard.put(_REJECTED, rejections.schema, rejections.batches())
    return Predicted(
        file=file.name,
        collected=logged.part.file,
        rows=count,
        rejected=rejections.rows,
        rejected_file=None if records is None else records.name,
        reasons=tuple(rejections.reasons),
        imputed=dict(screening.imputed),
        artifact_sha256=runtime.artifact_sha256,
        at=at.isoformat(),
        distribution=distribution.report(),
        blocks=file.blocks,
        rejected_blocks=None if records is None else records.blocks,
        libraries=dict(runtime.libraries),
        judged_by=judged_by,
        baseline_sha256=rules.baseline_sha256,
    )


def persist(
    dispatch: Dispatch,
    logged: Logged,
    sink: Sink,
    shelf: Shelf,
    on_counted: Callable[[int, int], None] | None = None,
) -> Persisted:
    """Hand the predictions of the logged rows to the sink, each with its origin.

    `logged` is what `notes.require_logged` read: only predictions of those very rows count. `on_counted`
    hears how many rows all partitions together have predicted and rejected. Rejected rows go to the
    quarantine first: they are stored even if they are too many, which raises `ThresholdError`. Raises
    `AccountingError` if the rows do not add up.
    """
    predicted = require_predicted(dispatch.model, logged, shelf)
    if (done := _report_of_earlier_try(dispatch, predicted, sink, shelf)) is not None:
        return Persisted(tuple(part.file for part in predicted), done)
    count = sum(part.rows for part in predicted)
    if on_counted is not None:
        on_counted(count, sum(part.rejected for part in predicted))
    _write_quarantine(dispatch, sink, logged, predicted, shelf)
    at = _predicted_at(predicted)
    order = order_of(logged.parts[0])
    with predicted_rows(predicted, shelf) as rows:
        complete = with_provenance(rows, dispatch, logged.artifact_sha256, at)
        written = sink.write(
            Predictions(complete, lambda: count, logged.artifact_sha256, at, order, logged.input_sha256)
        )
    persisted = accounted(dispatch, logged, predicted, written, is_stored=sink.is_stored)
    if dispatch.is_quarantined and sink.is_stored:
        with predicted_rows(predicted, shelf) as rows:
            sink.release(rows, order)
    put_persisted(persisted, shelf)
    return persisted


def order_of(collected: Collected) -> Order:
    """Nothing is older than a dispatch that an earlier version has collected."""
    return collected.order or Order(0)


def _predicted_at(predicted: Sequence[Predicted]) -> datetime:
    return max(datetime.fromisoformat(part.at) for part in predicted)


def _report_of_earlier_try(
    dispatch: Dispatch, predicted: Sequence[Predicted], sink: Sink, shelf: Shelf
) -> Accounts | None:
    """The accounts of these very predictions if they were persisted before, as the table has them now.

    None if they must be written, for the first time or again. Raises `AccountingError` if they are gone.
    """
    before = persisted_before(predicted, shelf)
    if before is None or not sink.is_stored:
        return before
    # Rows of an earlier reading do not count: mode upsert leaves those that this one did not find again.
    count = sink.count(_predicted_at(predicted))
    if count == before.persisted:
        return before
    if all(shelf.has_rows(part.staged) for part in predicted):
        return None
    model = dispatch.model
    raise AccountingError(
        f"models.{model.name}: this dispatch persisted {before.persisted} rows, but {count} of them are in "
        f"{model.sink.table} (connection '{model.sink.connection}') now: the others were deleted, or later "
        "dispatches replaced them; its staged rows are gone: clear 'collect' and the tasks after it in "
        "Airflow "
        "to dispatch again"
    )


def _write_quarantine(
    dispatch: Dispatch, sink: Sink, logged: Logged, predicted: Sequence[Predicted], shelf: Shelf
) -> None:
    """Quarantine the rejected rows; raise `ThresholdError` if there are too many."""
    collected, rejected = sum(part.rows for part in logged.parts), sum(part.rejected for part in predicted)
    judges = {part.judged_by for part in predicted if part.rejected}
    # Without one that holds for all of them, the next dispatch judges them again.
    is_known = len(judges) == 1 and is_within_threshold(dispatch, collected, rejected)
    judged_by = judges.pop() if is_known else None
    times = [part.at for part in logged.parts]
    collected_at = None if None in times else min(datetime.fromisoformat(at) for at in times if at)
    at = _predicted_at(predicted)
    with rejected_rows(predicted, shelf) as records:
        is_stored = sink.quarantine(
            RejectedRows(
                records,
                rejected,
                at,
                logged.artifact_sha256,
                order_of(logged.parts[0]),
                judged_by,
                collected_at,
            )
        )
    require_within_threshold(
        dispatch,
        collected=collected,
        rejected=rejected,
        reasons=merged_reasons([part.reasons for part in predicted]),
        is_stored=is_stored,
    )


def _limited(rows: pa.RecordBatchReader, limit: int | None) -> Iterator[pa.RecordBatch]:
    left = limit
    for batch in rows:
        if left is None:
            yield batch
        else:
            yield batch.slice(0, left)
            left -= min(left, batch.num_rows)
            if left == 0:  # before the next batch is asked for: it may cost a round trip
                return


def _seen(
    batches: Iterator[pa.RecordBatch], watchers: Sequence[Callable[[pa.RecordBatch], None]]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for see in watchers:
            see(batch)
        yield batch


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
