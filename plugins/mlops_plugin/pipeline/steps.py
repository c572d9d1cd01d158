"""The four steps, each once: what a DAG run's tasks, the terminal and the Showroom all call.

A step takes rows or a shelf and gives back what it counted. It opens nothing itself: `pipeline.runner`
hands it readers, runtimes and writers, so that every door runs this very code.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import AccountingError, ArtifactError, KeyColumnError, SinkError, StagingError
from mlops_plugin.model_loaders.runtime import Runtime
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.distribution import Distribution
from mlops_plugin.pipeline.increment import Increment
from mlops_plugin.pipeline.key_range import KeyRange
from mlops_plugin.pipeline.rejections import Reason, Rejections
from mlops_plugin.pipeline.staging import Shelf
from mlops_plugin.pipeline.threshold import require_within_threshold

if TYPE_CHECKING:
    from mlops_plugin.pipeline.quarantine import Quarantine

COLLECTED = "collect"
LOGGED = "log"
PREDICTED = "infer"
REJECTED = "rejected"
PERSISTED = "persist"

_Note = TypeVar("_Note")


@dataclass(frozen=True)
class Collected:
    """What `collect` left on the shelf. `columns`: {name, type (Arrow's)} in the query's order."""

    file: str
    rows: int
    query: str
    columns: list[dict[str, str]]
    first_key: dict[str, Any] | None
    last_key: dict[str, Any] | None
    increment: dict[str, Any] | None = None  # what of the query was read, see pipeline.increment


@dataclass(frozen=True)
class Logged:
    """What `log` pinned; later steps refuse anything else. `contract`: see `_contract`."""

    collected: str
    artifact_sha256: str
    contract: str


@dataclass(frozen=True)
class Predicted:
    """What `infer` left on the shelf: key and prediction columns. `at` is ISO 8601, UTC."""

    file: str
    collected: str  # the file of the rows it was made from
    rows: int
    rejected: int  # rows, each with one or more records in `rejected_file`
    rejected_file: str | None
    reasons: list[Reason]
    imputed: dict[str, int]  # column -> values replaced
    artifact_sha256: str
    at: str
    distribution: dict[str, Any]  # of the (first) prediction, see pipeline.distribution


@dataclass(frozen=True)
class Accounts:
    """Rows of a whole dispatch; it closes: collected = predicted + rejected, predicted = persisted."""

    collected: int
    predicted: int
    rejected: int
    persisted: int


def collect(
    dispatch: Dispatch,
    query: str,
    rows: pa.RecordBatchReader,
    shelf: Shelf,
    increment: Increment | None = None,
) -> Collected:
    """Stream the query's rows onto the shelf; raises `KeyColumnError` for a missing or NULL key.

    `increment` watches the rows where the model reads only a part of its query.
    """
    key, sink = dispatch.model.key, dispatch.model.sink
    if dispatch.limits and sink.mode == "replace" and not dispatch.is_dry_run:
        raise SinkError(
            f"models.{dispatch.model.name}: {sink.table} is written in mode replace: a dispatch of "
            f"{dispatch.limits} would leave nothing else in it; make it a dry run, or drop the limit"
        )
    missing = [column for column in key if column not in rows.schema.names]
    if missing:
        raise KeyColumnError(
            f"models.{dispatch.model.name}.key: the query returns no column {_quoted(missing)}; it returns "
            f"{_quoted(rows.schema.names)}; select the key or name another one"
        )
    if dispatch.model.input is not None:
        require_contract_fits(dispatch.model, rows.schema)
    key_range = KeyRange(dispatch.model.name, key)
    see = [key_range.see, *([increment.see] if increment else [])]
    file, count = shelf.put(COLLECTED, rows.schema, _seen(_limited(rows, dispatch.row_limit), see))
    collected = Collected(
        file=file,
        rows=count,
        query=query,
        columns=[{"name": field.name, "type": str(field.type)} for field in rows.schema],
        first_key=key_range.first,
        last_key=key_range.last,
        increment=increment.note() if increment else None,
    )
    shelf.put_note(COLLECTED, vars(collected))
    return collected


def require_contract_fits(model: ModelConfig, rows: pa.Schema) -> None:
    """Raise `ContractError` where no row of this schema could keep the model's `input:`."""
    from mlops_plugin.pipeline.contract import Contract  # it needs numpy, and most models have none

    if contract := Contract.of(model):
        contract.bind(rows)


def log(dispatch: Dispatch, artifact_sha256: str, shelf: Shelf) -> Collected:
    """Pin rows, artifact and configuration for the steps that follow; returns what is to be logged.

    Raises `ArtifactError` where rows were left out because of predictions by another artifact.
    """
    collected = _read_note(Collected, COLLECTED, shelf)
    skipped = (collected.increment or {}).get("skipped_artifact")
    if skipped not in (None, artifact_sha256):
        raise ArtifactError(
            f"models.{dispatch.model.name}.model: the artifact {dispatch.model.model.uri} changed after its "
            f"predictions were left out of the rows (sha256 {skipped[:12]}..., now "
            f"{artifact_sha256[:12]}...); clear 'collect' and what follows it in Airflow"
        )
    logged = Logged(collected.file, artifact_sha256, _contract(dispatch.model))
    shelf.put_note(LOGGED, vars(logged))
    return collected


def infer(dispatch: Dispatch, runtime: Runtime, shelf: Shelf) -> Predicted:
    """Stream the collected rows through the model; every row is predicted or rejected.

    Raises `ArtifactError` or `StagingError` where artifact, rows or configuration are not those logged, and
    `ContractError` where `input:` or `output:` end the dispatch.
    """
    collected, logged = _require_logged(dispatch, shelf)
    if logged.artifact_sha256 != runtime.artifact_sha256:
        raise ArtifactError(
            f"models.{dispatch.model.name}.model: the artifact {dispatch.model.model.uri} changed after it "
            f"was logged (sha256 {logged.artifact_sha256[:12]}..., now {runtime.artifact_sha256[:12]}...); "
            "clear 'log' and what follows it in Airflow to dispatch with the new one"
        )
    from mlops_plugin.pipeline.screening import Screening

    key = dispatch.model.key
    with shelf.rows(collected.file) as rows:
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
            rejected_file = None
            if rejections.rows:
                rejected_file, _ = shelf.unheard.put(REJECTED, rejections.schema, rejections.batches())
    if count + rejections.rows != collected.rows:
        raise AccountingError(
            f"models.{dispatch.model.name}: {collected.rows} rows were collected, but {count} were predicted "
            f"and {rejections.rows} rejected"
        )
    predicted = Predicted(
        file=file,
        collected=collected.file,
        rows=count,
        rejected=rejections.rows,
        rejected_file=rejected_file,
        reasons=rejections.reasons,
        imputed=dict(screening.imputed),
        artifact_sha256=runtime.artifact_sha256,
        at=datetime.now(UTC).isoformat(),
        distribution=distribution.report(),
    )
    shelf.put_note(PREDICTED, vars(predicted))
    return predicted


def persist(
    dispatch: Dispatch,
    write: Callable[[pa.RecordBatchReader], int] | None,
    shelf: Shelf,
    quarantine: Quarantine | None = None,
) -> Accounts:
    """Hand the predictions with their provenance to `write`, which says how many rows it has stored.

    Rejected rows go to `quarantine` first: they are there also where they are too many, which raises
    `ThresholdError`. Without `write` (a dry run) nothing is stored. Raises `AccountingError` where rows do
    not add up.
    """
    collected, logged = _require_logged(dispatch, shelf)
    predicted = _read_note(Predicted, PREDICTED, shelf)
    if (predicted.collected, predicted.artifact_sha256) != (collected.file, logged.artifact_sha256):
        raise StagingError(
            f"models.{dispatch.model.name}: the predictions are of other rows or of another artifact than "
            "those logged last; clear 'infer' and what follows it in Airflow"
        )
    if (done := _persisted_before(predicted, shelf)) is not None:
        return done
    if quarantine is not None:
        with _rejected_rows(predicted, shelf) as records:
            quarantine.write(records, predicted.rejected, datetime.fromisoformat(predicted.at))
    require_within_threshold(
        dispatch,
        collected=collected.rows,
        rejected=predicted.rejected,
        reasons=predicted.reasons,
        is_stored=quarantine is not None,
    )
    persisted = 0
    if write is not None:
        with shelf.rows(predicted.file) as rows:
            persisted = write(_with_provenance(rows, dispatch, predicted))
    accounts = Accounts(collected.rows, predicted.rows, predicted.rejected, persisted)
    is_closed = accounts.collected == accounts.predicted + accounts.rejected
    if not is_closed or (write is not None and accounts.persisted != accounts.predicted):
        raise AccountingError(
            f"models.{dispatch.model.name}: rows do not add up: {accounts.collected} collected, "
            f"{accounts.predicted} predicted, {accounts.rejected} rejected, {accounts.persisted} in "
            f"{dispatch.model.sink.table} (connection '{dispatch.model.sink.connection}'); clear 'collect' "
            "in Airflow to dispatch anew"
        )
    if quarantine is not None and dispatch.is_quarantined:
        with shelf.rows(predicted.file) as rows:
            quarantine.release(rows)
    shelf.put_note(PERSISTED, {"predictions": predicted.file, "accounts": vars(accounts)})
    return accounts


@contextlib.contextmanager
def _rejected_rows(predicted: Predicted, shelf: Shelf) -> Iterator[pa.RecordBatchReader]:
    if predicted.rejected_file is not None:
        with shelf.rows(predicted.rejected_file) as records:
            yield records
        return
    with shelf.rows(predicted.file) as rows:
        nothing = Rejections(list(rows.schema)).schema
    yield pa.RecordBatchReader.from_batches(nothing, [])


def increment_note(shelf: Shelf) -> dict[str, Any] | None:
    """What of its query the dispatch has read, as `collect` noted it."""
    return _read_note(Collected, COLLECTED, shelf).increment


def _require_logged(dispatch: Dispatch, shelf: Shelf) -> tuple[Collected, Logged]:
    """The rows and what was logged of them; raises `StagingError` where they no longer belong together."""
    collected = _read_note(Collected, COLLECTED, shelf)
    logged = _read_note(Logged, LOGGED, shelf)
    if logged.collected != collected.file:
        raise StagingError(
            f"models.{dispatch.model.name}: rows were collected again after they were logged; clear 'log' "
            "and what follows it in Airflow"
        )
    if logged.contract != _contract(dispatch.model):
        raise StagingError(
            f"models.{dispatch.model.name}: its key, features, model, input, output or sink changed in the "
            "configuration after this dispatch was logged; clear 'collect' and what follows it in Airflow to "
            "dispatch anew"
        )
    return collected, logged


def _persisted_before(predicted: Predicted, shelf: Shelf) -> Accounts | None:
    """The accounts of a try that persisted these very predictions, then died before it could say so."""
    note = shelf.find_note(PERSISTED)
    if note is None or note["predictions"] != predicted.file:
        return None
    return Accounts(**note["accounts"])


def _contract(model: ModelConfig) -> str:
    """A hash of what must not change between the steps of one dispatch."""
    contract = model.model_dump_json(
        include={
            "key": True,
            "features": True,
            "model": True,
            "input": True,
            "output": True,
            "sink": {"connection", "table", "mode"},
        }
    )
    return hashlib.sha256(contract.encode()).hexdigest()


def _read_note(kind: type[_Note], name: str, shelf: Shelf) -> _Note:
    try:
        return kind(**shelf.note(name))
    except TypeError as error:
        raise StagingError(
            f"staging: the note of step '{name}' was left by another version of this software; clear "
            "'collect' and what follows it in Airflow"
        ) from error


def predictions_schema(key: list[pa.Field], outputs: pa.Schema) -> pa.Schema:
    """The columns of a predictions table: the key, what the model says, and where it comes from."""
    return pa.schema([*key, *outputs, *_PROVENANCE])


_PROVENANCE = (
    pa.field("dispatch_id", pa.string(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("artifact_sha256", pa.string(), nullable=False),
    pa.field("predicted_at", pa.timestamp("us", tz="UTC"), nullable=False),
)


def _with_provenance(
    rows: pa.RecordBatchReader, dispatch: Dispatch, predicted: Predicted
) -> pa.RecordBatchReader:
    values = (
        dispatch.id,
        dispatch.model.name,
        predicted.artifact_sha256,
        datetime.fromisoformat(predicted.at),
    )
    constants = [pa.scalar(value, field.type) for field, value in zip(_PROVENANCE, values, strict=True)]
    schema = predictions_schema(list(rows.schema), pa.schema([]))

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            repeated = [pa.repeat(constant, batch.num_rows) for constant in constants]
            yield pa.RecordBatch.from_arrays([*batch.columns, *repeated], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


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
