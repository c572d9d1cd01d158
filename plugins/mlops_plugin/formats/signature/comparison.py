"""Asks a model its golden rows again and compares: what makes "the same answer as in the notebook" a fact.

`load_runtime`, `infer` and `mlops check` call `verify`; rows take the very path of a dispatch, Arrow in and
Arrow out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pyarrow as pa

from mlops_plugin.arrow_values import array_of
from mlops_plugin.errors import GoldenRowMismatch, MlopsError
from mlops_plugin.formats.outputs import CLASSES
from mlops_plugin.formats.runtime import Runtime
from mlops_plugin.formats.signature.cells import is_missing
from mlops_plugin.formats.signature.golden_rows import as_read, golden_batch, rounded_like
from mlops_plugin.formats.signature.signature import Signature, SignedOutput
from mlops_plugin.formats.signature.versions import changed_libraries

SINGLE = 1e-5  # a relative difference that is the rounding of 32 bits
# The output columns of each method begin with this name.
_COLUMNS = {"predict": "prediction", "predict_proba": "probability", "decision_function": "score"}


@dataclass(frozen=True)
class Verified:
    """How many golden rows were asked in the query's types, and how many those have no room for."""

    as_read: int
    others: int


def verify(
    runtime: Runtime,
    signature: Signature,
    rows: pa.Schema | None = None,
    *,
    tolerance: float | None = None,
    each_alone: bool = False,
) -> Verified:
    """Ask the model its golden rows, in the types of `rows`, or else in those that databases usually give.

    A row that those types have no room for is asked in the usual ones; a number that they round is rounded,
    and its answer compared as of 32 bits. They are asked together, then those with missing values apart from
    the others, and with `each_alone` one by one. Raises `GoldenRowMismatch` with the first difference: golden
    row, column, expected and found.
    """
    usual = golden_batch(signature)
    batch, places, rounded = usual, list(range(usual.num_rows)), list[str]()
    if rows is not None:
        usual, rounded = rounded_like(usual, rows)
        batch, places = as_read(usual, rows)
    others = sorted(set(range(usual.num_rows)) - set(places))
    if rounded and tolerance is None:
        tolerance = SINGLE
    try:
        verify_batch(runtime, signature, batch, places, tolerance=tolerance, each_alone=each_alone)
        if others:
            left = usual.take(array_of(others, pa.int64()))
            verify_batch(runtime, signature, left, others, tolerance=tolerance, each_alone=each_alone)
    except GoldenRowMismatch as error:
        if not rounded:
            raise
        raise GoldenRowMismatch(
            f"{error}; or the query's columns of four bytes are the cause ({', '.join(rounded)}), which "
            "round the numbers of training: train on what the query returns, or store them in eight bytes"
        ) from error
    return Verified(len(places), len(others))


def verify_batch(
    runtime: Runtime,
    signature: Signature,
    batch: pa.RecordBatch,
    places: Sequence[int],
    *,
    tolerance: float | None = None,
    each_alone: bool = False,
) -> None:
    """The same for golden rows that were read from somewhere; `places` says which ones they are."""
    for group in _groups(signature, batch, each_alone):
        some = batch.take(array_of(group, pa.int64()))
        try:
            answers = runtime.predict(some)
        except MlopsError as error:
            raise GoldenRowMismatch(
                f"{_where(signature)}: the model refuses golden rows that it answered in training: {error}; "
                f"{_advice(signature, runtime)}"
            ) from error
        found = [*_differences(signature, answers, [places[at] for at in group], tolerance)]
        if found:
            more = f" ({len(found)} differences in {len(group)} rows)" if len(found) > 1 else ""
            raise GoldenRowMismatch(f"{_where(signature)}: {found[0]}{more}; {_advice(signature, runtime)}")


def not_compared(signature: Signature) -> list[str]:
    """A line for each output that is not compared, and why."""
    total = len(signature.golden.rows)
    lines = []
    for method, one in signature.golden.unstable.items():
        rows = "any golden row" if one.rows is None else f"{len(one.rows)} of {total} golden rows"
        lines.append(f"{_COLUMNS[method]} is not compared for {rows}: {one.why}")
    return lines


def _groups(signature: Signature, batch: pa.RecordBatch, each_alone: bool) -> Iterator[list[int]]:
    everything = list(range(batch.num_rows))
    if not everything:
        return
    yield everything
    if not signature.golden.alone:
        return
    with_missing = {
        place
        for column in batch.columns
        for place, is_null in enumerate(column.is_null().to_pylist())
        if is_null
    }
    if 0 < len(with_missing) < len(everything):
        yield sorted(with_missing)
        yield [place for place in everything if place not in with_missing]
    if each_alone:
        yield from ([place] for place in everything)


def _differences(
    signature: Signature, answers: pa.RecordBatch, places: Sequence[int], tolerance: float | None
) -> Iterator[str]:
    for output in signature.outputs:
        unstable = signature.golden.unstable.get(output.method)
        if unstable is not None and unstable.rows is None:
            continue
        names = _columns_of(output, answers.schema)
        if len(names) != output.width or answers.num_rows != len(places):
            yield (
                f"{output.method}: expected {output.width} columns of {len(places)} values, "
                f"found {len(names)} of {answers.num_rows}"
            )
            continue
        expected = signature.golden.answers[output.method]
        for number, name in enumerate(names):
            column = [row[number] for row in expected]
            equals = _comparison(output, column, tolerance)
            for place, found in zip(places, answers.column(name).to_pylist(), strict=True):
                is_compared = unstable is None or place not in (unstable.rows or ())
                if is_compared and not equals(column[place], found):
                    yield (
                        f"golden row {place + 1}, column '{name}': expected {_shown(column[place])}, found "
                        f"{_shown(found)}"
                    )


def _columns_of(output: SignedOutput, columns: pa.Schema) -> list[str]:
    """The columns in which the answers of a method stand."""
    word = _COLUMNS[output.method]
    names = [name for name in columns.names if name == word or name.startswith(f"{word}_")]
    is_of_booster = (
        (output.method, output.kind) == ("predict", "number")
        and names == [word]
        and CLASSES in (columns.field(word).metadata or {})
    )
    if not is_of_booster:
        return names
    # A Booster's `predict` gave probabilities, of two classes the second one's.
    likely = [name for name in columns.names if name.startswith("probability_")]
    return likely if output.width > 1 else likely[-1:]


def _comparison(output: SignedOutput, expected: Sequence[Any], tolerance: float | None) -> Any:
    if output.kind == "label":
        return _is_same_label
    limit = output.tolerance if tolerance is None else tolerance
    finite = [abs(v) for v in expected if isinstance(v, int | float) and math.isfinite(v)]
    typical = median(finite) if finite else 0.0

    def is_close(one: Any, other: Any) -> bool:
        if is_missing(one) or is_missing(other):
            return is_missing(one) and is_missing(other)
        if not isinstance(other, int | float) or not isinstance(one, int | float):
            return _is_same_label(one, other)
        return one == other or abs(one - other) <= limit * max(abs(one), typical)

    return is_close


def _is_same_label(expected: Any, found: Any) -> bool:
    """A label of a type that the column cannot hold is stored as text, which is documented."""
    if is_missing(expected) or is_missing(found):
        return is_missing(expected) and is_missing(found)
    if isinstance(found, str) and not isinstance(expected, str):
        if isinstance(expected, bytes):
            expected = expected.decode(errors="backslashreplace")
        return str(expected) == found
    return isinstance(expected, bool) == isinstance(found, bool) and bool(expected == found)


def _where(signature: Signature) -> str:
    return f"signature '{signature.uri}'" if signature.uri else "signature"


def _advice(signature: Signature, runtime: Runtime) -> str:
    changed = changed_libraries(signature, runtime.packages)
    cause = (
        f"libraries differ from those of training ({', '.join(changed)}): install those, give the model an "
        "environment of its own, or train again"
        if changed
        else "the model's input here differs from that in training: correct `model:` or the query"
    )
    return f"{cause}; if the new answers are right, write a new signature (mlops sign)"


def _shown(value: Any) -> str:
    if is_missing(value):
        return "NULL"
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
