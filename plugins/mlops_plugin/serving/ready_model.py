"""A loaded model that answers several requests at once; each is a dispatch of its own, as in `serving.run`.

What is the same for all requests with rows of one schema is found out once. Only what goes well goes this
way: whatever is raised here, the caller asks again one by one, and in the end by `serving.run`, which records
failures as well.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import AccountingError
from mlops_plugin.events.details.step_reports import InferReport
from mlops_plugin.events.whole_dispatches import WholeDispatch
from mlops_plugin.formats.registry.model_version import ModelVersion
from mlops_plugin.formats.registry.registered_models import of_version
from mlops_plugin.pipeline.dispatch import Dispatch, new_dispatch_id
from mlops_plugin.pipeline.distribution import Distribution
from mlops_plugin.pipeline.reading.key_range import KeyRange
from mlops_plugin.pipeline.recording.infer_reports import infer_reasons
from mlops_plugin.pipeline.steps import require_collectable
from mlops_plugin.pipeline.validation.learning import admitting
from mlops_plugin.pipeline.validation.rejections import Rejections
from mlops_plugin.pipeline.validation.screening import Rules, Screening
from mlops_plugin.serving.run_records import Moments, Run, RunRecords
from mlops_plugin.serving.showing_sink import Rejection, rejections_of
from mlops_plugin.workers.process import ModelProcess


@dataclass(frozen=True)
class Given:
    """The rows of one request, and who asks."""

    rows: pa.RecordBatch
    user: str | None


@dataclass(frozen=True)
class Predicted:
    """The answer to one request: `predictions` has the model's columns, without the rejected rows."""

    dispatch_id: str
    rows: int
    predictions: pa.RecordBatch
    rejections: tuple[Rejection, ...]
    whole: WholeDispatch  # not on record yet


@dataclass(frozen=True)
class ReadyModel:
    """A model in its process, for rows of one schema. `baseline_sha256`: of the one in its contract."""

    model: ModelConfig
    version: ModelVersion | None
    process: ModelProcess
    schema: pa.Schema
    outputs: pa.Schema
    rules: Rules
    records: RunRecords
    baseline_sha256: str | None

    @classmethod
    def of(
        cls,
        model: ModelConfig,
        version: ModelVersion | None,
        process: ModelProcess,
        first: pa.RecordBatch,
        baseline_sha256: str | None,
    ) -> Self:
        """For rows like `first`; raises what the steps of a dispatch have against them."""
        signed = of_version(model, version)
        dispatch = Dispatch(new_dispatch_id(), signed, "showroom", is_dry_run=True)
        require_collectable(dispatch, first.schema)
        process.learn_outputs(admitting(model, first.schema)(first))
        rules = Rules.of(model, process, first.schema)
        records = RunRecords(model, version, process, first.schema)
        return cls(model, version, process, first.schema, process.outputs, rules, records, baseline_sha256)

    def fits(
        self,
        model: ModelConfig,
        version: ModelVersion | None,
        process: ModelProcess,
        rows: pa.Schema,
        baseline_sha256: str | None,
    ) -> bool:
        """Whether it is about this very model in this process."""
        return (
            self.model is model
            and self.version == version
            and self.process is process
            and self.outputs is process.outputs
            and self.baseline_sha256 == baseline_sha256
            and self.schema.equals(rows)
        )

    def ask(self, given: Sequence[Given]) -> list[Predicted | None]:
        """Ask the model about all rows at once; None for requests that must be asked alone.

        Raises what the model or its contract has against some row of them.
        """
        began, started = datetime.now(UTC), time.monotonic()
        rows = _together(given)
        key = list(self.model.key)
        key_ranges = [self._key_range(one) for one in given]
        collected, inferring = datetime.now(UTC), time.monotonic()
        with Rejections([self.schema.field(name) for name in key]) as kept:
            screening = Screening(self.model, self.process, self.rules, kept)
            _, predicted = screening.predict(rows)
            rejections = rejections_of(kept.batches(), kept.schema) if kept.rows else ()
        moments = Moments(
            began, collected, datetime.now(UTC), inferring - started, time.monotonic() - inferring
        )
        if predicted.num_rows + kept.rows != rows.num_rows:
            raise AccountingError(
                f"models.{self.model.name}: {rows.num_rows} rows were given, but {predicted.num_rows} were "
                f"predicted and {kept.rows} rejected"
            )
        if len(given) > 1 and screening.imputed:  # nobody knows whose values they were
            return [None] * len(given)
        if len(given) == 1:
            report = replace(
                self._report(predicted, kept.rows),
                reasons=infer_reasons(kept.reasons),
                imputed=dict(screening.imputed),
            )
            return [self._of_request(given[0], key_ranges[0], predicted, rejections, report, moments)]
        return self._divided(given, key_ranges, predicted, {one.row for one in rejections}, moments)

    def _divided(
        self,
        given: Sequence[Given],
        key_ranges: Sequence[KeyRange],
        predicted: pa.RecordBatch,
        rejected: set[int],
        moments: Moments,
    ) -> list[Predicted | None]:
        """Each request's part of the answers; None for one of which a row was rejected."""
        found: list[Predicted | None] = []
        row = answer = 0
        for one, key_range in zip(given, key_ranges, strict=True):
            count = one.rows.num_rows
            bad = rejected.intersection(range(row, row + count)) if rejected else ()
            row += count
            if bad:
                answer += count - len(bad)
                found.append(None)
                continue
            own = predicted.slice(answer, count)
            answer += count
            found.append(self._of_request(one, key_range, own, (), self._report(own, 0), moments))
        return found

    def _key_range(self, given: Given) -> KeyRange:
        key_range = KeyRange(self.model.name, self.model.key)
        key_range.see(given.rows)
        return key_range

    def _report(self, predicted: pa.RecordBatch, rejected: int) -> InferReport:
        distribution = Distribution(self.outputs.field(0).type)
        distribution.see(predicted.column(0))
        return InferReport(
            predicted.num_rows,
            rejected,
            distribution=distribution.report(),
            libraries=self.records.libraries,
        )

    def _of_request(
        self,
        given: Given,
        key_range: KeyRange,
        predicted: pa.RecordBatch,
        rejections: tuple[Rejection, ...],
        report: InferReport,
        moments: Moments,
    ) -> Predicted:
        run = Run(new_dispatch_id(), given.user, given.rows.num_rows, key_range.first, key_range.last, report)
        return Predicted(run.dispatch_id, run.rows, predicted, rejections, self.records.whole(run, moments))


def _together(given: Sequence[Given]) -> pa.RecordBatch:
    if len(given) == 1:
        return given[0].rows
    (rows,) = pa.Table.from_batches([one.rows for one in given]).combine_chunks().to_batches()
    return rows
