"""Checks rows before the model in `infer`, and its answers after it."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mlops_plugin.arrow_values import array_of_numbers
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import ContractError, FeatureError
from mlops_plugin.formats.runtime import Runtime, WorksAhead
from mlops_plugin.pipeline.validation.baseline import Baseline
from mlops_plugin.pipeline.validation.contract import BoundContract, Contract
from mlops_plugin.pipeline.validation.output_check import OutputCheck
from mlops_plugin.pipeline.validation.refusals import Answered, first_refused, predict_each
from mlops_plugin.pipeline.validation.rejections import Refused, Rejections, format_reasons

_FEW_ROWS = 64  # batches of requests: what is the same for each is kept


@dataclass(frozen=True)
class Rules:
    """What rows of one schema, and the answers about them, are held to."""

    contract: BoundContract | None
    output: OutputCheck
    baseline: Baseline | None = None  # that the contract was made with

    @classmethod
    def of(cls, model: ModelConfig, runtime: Runtime, rows: pa.Schema) -> Rules:
        """Raises `ContractError` if the contract does not fit rows of this schema, or the artifact."""
        contract = Contract.of(model)
        if contract is not None:
            contract.require_made_for(runtime.artifact_sha256)
        baseline = contract.baseline if contract else None
        return cls(
            contract.bind(rows) if contract else None,
            OutputCheck(model.name, runtime.outputs, baseline.classes if baseline else None),
            baseline,
        )

    @property
    def baseline_sha256(self) -> str | None:
        """A hash of what the baseline asks of rows and answers; it may be made again from the same rows."""
        if self.baseline is None:
            return None
        rules = {name: one.rule() for name, one in self.baseline.features.items()}
        for rule in rules.values():
            if "allowed" in rule:
                rule["allowed"] = _sorted(rule["allowed"])  # the commonest first, which changes no answer
        classes = None if self.baseline.classes is None else _sorted(self.baseline.classes)
        asked = [self.baseline.artifact_sha256, rules, classes]
        return hashlib.sha256(json.dumps(asked, default=str, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Admitted:
    """A batch before the model: `rows` are those at `places` as the contract reads them."""

    batch: pa.RecordBatch
    rows: pa.RecordBatch
    places: pa.Int64Array
    refused: list[Refused]


class Screening:
    """Predicts batch by batch; what it rejects is in `rejections`, what it replaced in `imputed`."""

    def __init__(self, model: ModelConfig, runtime: Runtime, rules: Rules, rejections: Rejections) -> None:
        self._contract, self._output = rules.contract, rules.output
        self._model = model
        self._runtime = runtime
        self._rejections = rejections
        self._rows = 0
        self.imputed: Counter[str] = Counter()

    def checked(self, rows: pa.Schema) -> pa.Schema:
        """The columns as the contract hands them to the model."""
        return rows if self._contract is None else self._contract.schema_of(rows)

    def predict(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """The accepted rows, as they were collected, and the model's predictions for them."""
        return self._judged(self._admitted(batch))

    def predict_all(
        self, batches: Iterable[pa.RecordBatch]
    ) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
        """The same for one batch after the other.

        A model in a process of its own works on a batch while the next one is read.
        """
        if not isinstance(self._runtime, WorksAhead):
            for batch in batches:
                yield self.predict(batch)
            return
        asked: _Admitted | None = None
        for batch in batches:
            following = self._admitted(batch)
            self._runtime.check(following.rows.schema)
            self._runtime.ask_ahead(following.rows)
            if asked is not None:
                yield self._judged(asked)
            asked = following
        if asked is not None:
            yield self._judged(asked)

    def _admitted(self, batch: pa.RecordBatch) -> _Admitted:
        rows, refused = self._apply_contract(batch)
        places = accepted(refused, rows.num_rows) if refused else every_place(rows.num_rows)
        return _Admitted(batch, rows.take(places) if refused else rows, places, refused)

    def _judged(self, admitted: _Admitted) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        batch, answered = admitted.batch, self._answered(admitted)
        wrong = self._output.check(answered.predictions, len(answered.places))
        if wrong and self._model.output.on_violation == "fail":
            raise self._wrong_answers(wrong)
        by_output = [one.within(answered.places) for one in wrong]
        refused = [*admitted.refused, *answered.refused, *by_output]
        self._rejections.add(batch, self._rows, refused)
        self._rows += batch.num_rows
        if not refused:
            return batch, answered.predictions
        good = accepted(wrong, len(answered.places))
        return batch.take(answered.places.take(good)), answered.predictions.take(good)

    def _apply_contract(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[Refused]]:
        """All rows, as the contract reads them, and those that violate it."""
        if self._contract is None:
            return batch, []
        checked = self._contract.check(batch)
        self.imputed.update(checked.imputed)
        return checked.rows, [
            Refused.of_mask(one.column, one.reason, one.rows, batch.column(one.column))
            for one in checked.violations
        ]

    def _answered(self, admitted: _Admitted) -> Answered:
        """The model's predictions for the rows that are valid so far."""
        rows, places = admitted.rows, admitted.places
        if self._contract is None:
            return Answered(self._predict(rows), places, [])
        answered = predict_each(self._runtime, rows)
        return Answered(
            answered.predictions,
            places.take(answered.places),
            [one.within(places) for one in answered.refused],
        )

    def _predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The model's answers; a refusal names the first row that the model refuses also alone."""
        self._runtime.check(rows.schema)  # what is wrong with the columns is no row's fault
        try:
            return self._runtime.predict(rows)
        except FeatureError as error:
            place = first_refused(self._runtime, rows)
            key = [name for name in self._model.key if name in rows.schema.names]
            if place is None or not key:
                raise
            named = ", ".join(f"{name}={_short(rows.column(name)[place].as_py())}" for name in key)
            raise FeatureError(f"{error}; the first such row is {named}") from error

    def _wrong_answers(self, wrong: list[Refused]) -> ContractError:
        reasons = [(one.column, one.reason, len(one.places)) for one in wrong]
        return ContractError(
            f"models.{self._model.name}.output: {format_reasons(reasons)} in one batch; correct the "
            "model, leave such rows out in the query or by `input:`, or set output.on_violation: reject"
        )


def _sorted(values: Iterable[object]) -> list[object]:
    """Values of any types in the same order each time."""
    return sorted(values, key=repr)


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def every_place(rows: int) -> pa.Int64Array:
    """The positions of all rows."""
    return _places_of_few(rows) if rows <= _FEW_ROWS else accepted([], rows)


@functools.lru_cache(_FEW_ROWS)
def _places_of_few(rows: int) -> pa.Int64Array:
    return accepted([], rows)


def accepted(refused: list[Refused], rows: int) -> pa.Int64Array:
    """The positions of the rows that were not refused."""
    kept = np.ones(rows, dtype=bool)
    for one in refused:
        kept[one.places.to_numpy(zero_copy_only=False)] = False
    return array_of_numbers(np.flatnonzero(kept))
