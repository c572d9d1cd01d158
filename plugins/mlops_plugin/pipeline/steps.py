"""The four steps, each once: what a DAG run's tasks, the terminal and the Showroom all call.

A step takes rows or a shelf and gives back what it counted. It opens nothing itself: `pipeline.runner`
hands it readers, runtimes and writers, so that every door runs this very code.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import AccountingError, ArtifactChanged, KeyColumnMissing, LimitRefused
from mlops_plugin.formats.runtime import Runtime
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.distribution import Distribution
from mlops_plugin.pipeline.provenance import with_provenance
from mlops_plugin.pipeline.reading.increment import Increment
from mlops_plugin.pipeline.reading.key_range import KeyRange
from mlops_plugin.pipeline.reading.partitions import Partition
from mlops_plugin.pipeline.staging.notes import (
    COLLECTED,
    LOGGED,
    PERSISTED,
    PLANNED,
    PREDICTED,
    Accounts,
    Collected,
    Logged,
    Planned,
    Predicted,
    all_collected,
    find_plan,
    persisted_before,
    pinned_settings,
    require_collected,
    require_logged,
    require_predicted,
    shelves,
)
from mlops_plugin.pipeline.staging.shelf import Shelf
from mlops_plugin.pipeline.staging.staged_rows import predicted_rows, rejected_rows
from mlops_plugin.pipeline.validation.rejections import Rejections, merged_reasons
from mlops_plugin.pipeline.validation.threshold import is_within_threshold, require_within_threshold

if TYPE_CHECKING:
    from mlops_plugin.pipeline.validation.quarantine import Quarantine

REJECTED = "rejected"


def plan(query: str, partitions: Sequence[Partition], shelf: Shelf) -> Planned:
    """Pin the partitions that `collect` and `infer` each take one of."""
    planned = Planned(uuid.uuid4().hex, query, [partition.as_json() for partition in partitions])
    shelf.put_note(PLANNED, vars(planned))
    return planned


def collect(
    dispatch: Dispatch,
    query: str,
    rows: pa.RecordBatchReader,
    shelf: Shelf,
    *,
    increment: Increment | None = None,
    planned: Planned | None = None,
) -> Collected:
    """Stream the query's rows, or one partition's, onto the shelf.

    Raises `KeyColumnError` for a missing or NULL key. `increment` watches the rows where the model reads
    only a part of its query.
    """
    key, sink = dispatch.model.key, dispatch.model.sink
    if dispatch.limits and sink.mode == "replace" and not dispatch.is_dry_run:
        raise LimitRefused(
            f"models.{dispatch.model.name}: {sink.table} is written in mode replace: a dispatch of "
            f"{dispatch.limits} would leave nothing else in it; make it a dry run, or drop the limit"
        )
    missing = [column for column in key if column not in rows.schema.names]
    if missing:
        raise KeyColumnMissing(
            f"models.{dispatch.model.name}.key: the query returns no column {_quoted(missing)}; it returns "
            f"{_quoted(rows.schema.names)}; select the key or name another one"
        )
    if dispatch.model.input is not None:
        require_contract_fits(dispatch.model, rows.schema)
    key_range = KeyRange(dispatch.model.name, key)
    see = [key_range.see, *([increment.see] if increment else [])]
    file, count = shelf.put(COLLECTED, rows.schema, _seen(_limited(rows, dispatch.row_limit), see))
    collected = Collected(
        file=file.name,
        rows=count,
        query=query,
        columns=[{"name": field.name, "type": str(field.type)} for field in rows.schema],
        first_key=key_range.first,
        last_key=key_range.last,
        increment=increment.note() if increment else None,
        plan=None if planned is None else planned.id,
        blocks=file.blocks,
    )
    shelf.put_note(COLLECTED, vars(collected))
    return collected


def require_contract_fits(model: ModelConfig, rows: pa.Schema) -> None:
    """Raise `ContractError` where no row of this schema could keep the model's `input:`."""
    from mlops_plugin.pipeline.validation.contract import (
        Contract,  # it needs numpy, and most models have none
    )

    if contract := Contract.of(model):
        contract.bind(rows)


def log(dispatch: Dispatch, artifact_sha256: str, shelf: Shelf) -> Collected:
    """Pin rows, artifact and configuration for the steps that follow; returns what is to be logged.

    Raises `ArtifactError` where rows were left out because of predictions by another artifact.
    """
    collected, files = all_collected(dispatch.model, shelf)
    skipped = (collected.increment or {}).get("skipped_artifact")
    if skipped not in (None, artifact_sha256):
        raise ArtifactChanged(
            f"models.{dispatch.model.name}.model: the artifact {dispatch.model.model.uri} changed after its "
            f"predictions were left out of the rows (sha256 {skipped[:12]}..., now "
            f"{artifact_sha256[:12]}...); clear 'collect' and what follows it in Airflow"
        )
    logged = Logged(files, artifact_sha256, pinned_settings(dispatch.model))
    shelf.put_note(LOGGED, vars(logged))
    return collected


def infer(dispatch: Dispatch, runtime: Runtime, shelf: Shelf) -> Predicted:
    """Stream the collected rows, or one partition's, through the model; each is predicted or rejected.

    Raises `ArtifactError` or `StagingError` where artifact, rows or configuration are not those logged, and
    `ContractError` where `input:` or `output:` end the dispatch.
    """
    logged = require_logged(dispatch.model, shelf)
    collected = require_collected(dispatch.model, logged, shelf)
    if logged.artifact_sha256 != runtime.artifact_sha256:
        raise ArtifactChanged(
            f"models.{dispatch.model.name}.model: the artifact {dispatch.model.model.uri} changed after it "
            f"was logged (sha256 {logged.artifact_sha256[:12]}..., now {runtime.artifact_sha256[:12]}...); "
            "clear 'log' and what follows it in Airflow to dispatch with the new one"
        )
    from mlops_plugin.pipeline.validation.screening import Screening

    key = dispatch.model.key
    with shelf.rows(collected.staged) as rows:
        key_fields = [rows.schema.field(column) for column in key]
        schema = pa.schema([*key_fields, *runtime.outputs])
        distribution = Distribution(runtime.outputs.field(0).type)
        with Rejections(key_fields) as rejections:
            screening = Screening(dispatch.model, runtime, rows.schema, rejections)

            def predictions() -> Iterator[pa.RecordBatch]:
                for batch in rows:
                    kept, predicted = screening.predict(batch)
                    distribution.see(predicted.column(0))
                    columns = [*kept.select(list(key)).columns, *predicted.columns]
                    yield pa.RecordBatch.from_arrays(columns, schema=schema)

            file, count = shelf.put(PREDICTED, schema, predictions())
            records = None
            if rejections.rows:
                records, _ = shelf.unheard.put(REJECTED, rejections.schema, rejections.batches())
    if count + rejections.rows != collected.rows:
        raise AccountingError(
            f"models.{dispatch.model.name}: {collected.rows} rows were collected, but {count} were predicted "
            f"and {rejections.rows} rejected"
        )
    predicted = Predicted(
        file=file.name,
        collected=collected.file,
        rows=count,
        rejected=rejections.rows,
        rejected_file=None if records is None else records.name,
        reasons=rejections.reasons,
        imputed=dict(screening.imputed),
        artifact_sha256=runtime.artifact_sha256,
        at=datetime.now(UTC).isoformat(),
        distribution=distribution.report(),
        blocks=file.blocks,
        rejected_blocks=None if records is None else records.blocks,
    )
    shelf.put_note(PREDICTED, vars(predicted))
    return predicted


def persist(
    dispatch: Dispatch,
    write: Callable[[pa.RecordBatchReader], int] | None,
    shelf: Shelf,
    quarantine: Quarantine | None = None,
    on_counted: Callable[[int, int], None] | None = None,
) -> Accounts:
    """Hand the predictions with their provenance to `write`, which says how many rows it has stored.

    `on_counted` hears how many rows all partitions together have predicted and rejected. Rejected rows go to
    `quarantine` first: they are there also where they are too many, which raises `ThresholdError`. Without
    `write` (a dry run) nothing is stored. Raises `AccountingError` where rows do not add up.
    """
    model = dispatch.model
    logged = require_logged(model, shelf)
    found = [require_predicted(model, logged, part) for part in shelves(find_plan(model, shelf), shelf)]
    predicted = [part for _, part in found]
    if (done := persisted_before([part.file for part in predicted], shelf)) is not None:
        return done
    collected, rejected = sum(part.rows for part, _ in found), sum(part.rejected for part in predicted)
    if on_counted is not None:
        on_counted(sum(part.rows for part in predicted), rejected)
    at = max(datetime.fromisoformat(part.at) for part in predicted)
    if quarantine is not None:
        judged_by = None
        if model.source.skip_predicted and is_within_threshold(dispatch, collected, rejected):
            from mlops_plugin.pipeline.validation.quarantine import judgement

            judged_by = judgement(model, logged.artifact_sha256)
        with rejected_rows(predicted, shelf) as records:
            quarantine.write(records, rejected, at, judged_by)
    require_within_threshold(
        dispatch,
        collected=collected,
        rejected=rejected,
        reasons=merged_reasons([part.reasons for part in predicted]),
        is_stored=quarantine is not None,
    )
    persisted = 0
    if write is not None:
        with predicted_rows(predicted, shelf) as rows:
            persisted = write(with_provenance(rows, dispatch, logged.artifact_sha256, at))
    accounts = Accounts(collected, sum(part.rows for part in predicted), rejected, persisted)
    is_closed = accounts.collected == accounts.predicted + accounts.rejected
    if not is_closed or (write is not None and accounts.persisted != accounts.predicted):
        raise AccountingError(
            f"models.{model.name}: rows do not add up: {accounts.collected} collected, "
            f"{accounts.predicted} predicted, {accounts.rejected} rejected, {accounts.persisted} in "
            f"{model.sink.table} (connection '{model.sink.connection}'); clear 'collect' "
            "in Airflow to dispatch anew"
        )
    if quarantine is not None and dispatch.is_quarantined:
        with predicted_rows(predicted, shelf) as rows:
            quarantine.release(rows)
    note = {"predictions": [part.file for part in predicted], "accounts": vars(accounts)}
    shelf.put_note(PERSISTED, note)
    return accounts


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


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
