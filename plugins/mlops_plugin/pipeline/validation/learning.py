"""Learns with which columns a model answers, from the first rows of a dispatch; `infer` begins with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, tee

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import ContractError
from mlops_plugin.formats.runtime import LEARNED_ROWS, SAMPLE_ROWS, Runtime

# So many are held in memory at most, while all answers are missing.
_MOST_ROWS = 100_000

Admit = Callable[[pa.RecordBatch], pa.RecordBatch]


def learn_outputs(
    model: ModelConfig, runtime: Runtime, rows: pa.RecordBatchReader
) -> Iterator[pa.RecordBatch]:
    """All batches, once the model's outputs are learned from the first rows, however small batches are.

    If rows may be rejected, missing answers end no dispatch: then more rows are taken until an answer tells
    the type.
    """
    admit = admitting(model, rows.schema)
    coming, taken, count = iter(rows), list[pa.RecordBatch](), 0
    for enough in (SAMPLE_ROWS, LEARNED_ROWS):
        while count < enough and (batch := next(coming, None)) is not None:
            taken.append(batch)
            count += batch.num_rows
        if count == 0 or runtime.learn_outputs(admit(_joined(taken).slice(0, LEARNED_ROWS))):
            return chain(taken, coming)
    if model.may_reject:
        coming, ahead = tee(coming)
        later = chain([_joined(taken).slice(LEARNED_ROWS)], ahead)
        any(runtime.learn_outputs(admit(some)) for some in _first_of(later, _MOST_ROWS))
    return chain(taken, coming)


def admitting(model: ModelConfig, rows: pa.Schema) -> Admit:
    """What makes of rows those that the model is asked about, as its contract converts them.

    None of rows of which one ends the dispatch: that is for `Screening` to tell.
    """
    if model.input is None:
        return lambda batch: batch
    from mlops_plugin.pipeline.validation.baseline_making import valid_rows
    from mlops_plugin.pipeline.validation.contract import Contract

    contract = Contract.of(model)
    assert contract is not None  # noqa: S101 -- there is an `input:`
    bound = contract.bind(rows)

    def admit(batch: pa.RecordBatch) -> pa.RecordBatch:
        try:
            return next(valid_rows(bound, [batch]))
        except ContractError:
            return batch.slice(0, 0)

    return admit


def _first_of(batches: Iterable[pa.RecordBatch], most: int) -> Iterator[pa.RecordBatch]:
    """The first rows, in parts of which each may be learned from as a whole."""
    for batch in batches:
        for start in range(0, min(batch.num_rows, most), LEARNED_ROWS):
            yield batch.slice(start, LEARNED_ROWS)
        most -= batch.num_rows
        if most <= 0:
            return


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    (joined,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return joined
