"""Finds a model whose answer about a row depends on the rows beside it; `ScikitRuntime` asks as rows come.

A rank, a difference to the row before, or a mean over the batch gives other predictions with another
`batch_rows`, and no error. A signature tells of such a model; without one it is refused.

Rows are asked again in other company: as many rows, each in its place and with the missing values of the
row that was there, so that nothing but the values beside them is another. Whatever computes row by row
rounds the same then, and ties fall the same, so a single answer that changes tells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.arrow_values import array_of_numbers, doubles_of
from mlops_plugin.errors import AnswersOfNeighbours, ArtifactError, FeatureError, InputUndecided
from mlops_plugin.formats.features import is_text

_SAMPLE_ROWS = 16  # spread over the batch; besides, rows with NULL in each column that has one
_MOST_WITH_NULL = 16  # columns whose first and last row with NULL are asked about, at once
_MOST_TEXTS = 3  # columns of text whose last value is asked among others alone
# Relative. Rows in their places are computed alike; what iterates until it is near enough may end elsewhere.
_TOLERANCE = 1e-6

_ALONE = 3  # rows that are asked one by one
# Of one row, libraries compute otherwise than of many, some in 32 bits; ties between neighbours of training
# may fall otherwise for a few of them.
_TOLERANCE_ALONE = 1e-4
_LEAST_SHARE_ALONE = 0.5
# So many rows are asked instead of a smaller batch: in a few rows, counts and sums are all alike to a model
# that was trained on many.
_MANY_ROWS = 512

Ask = Callable[[pa.RecordBatch], pa.RecordBatch]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
# For each place of a sample the place whose row stands there, and the places of the rows that kept theirs.
Company = tuple[list[int], list[int]]


class OwnAnswers:
    """Whether a model's answers are each row's own.

    Asked once, and again when a column has its first missing value, NULL or NaN: what fills in a mean of the
    batch changes no other row.
    """

    def __init__(
        self,
        uri: str,
        features: Sequence[str],
        ask: Ask,
        *,
        asks_many: bool = True,
        signed: Collection[str] | None = None,
    ) -> None:
        """`asks_many`: ask about many rows, too, if they come in small batches.

        `signed`: the columns of which golden rows miss a value, if a signature says that their answers are
        their own.
        """
        self._uri, self._features, self._ask = uri, features, ask
        self._is_asked_many = not asks_many or signed is not None
        self._is_asked_alone = signed is not None
        # The greatest number of rows that were asked about at once.
        self._asked_rows = 0 if signed is None else _SAMPLE_ROWS
        self._with_null = {*(signed or ())}  # columns whose missing values were among the rows asked about
        self._first: pa.RecordBatch | None = None  # the first rows, if they come in small batches

    def require(self, rows: pa.RecordBatch, answered: pa.RecordBatch) -> None:
        """Ask again about some of these rows; `answered` is the model's answers about all of them.

        Raises `AnswersOfNeighbours` if the answers differ. A model that answers otherwise each time, because
        it samples, passes: its answers are its own.
        """
        is_asked = self._asked_rows >= _SAMPLE_ROWS
        if is_asked and not any(map(_has_missing, rows.columns)):
            return
        with_null = [name for name in self._features if _has_missing(rows.column(name))]
        is_known = self._with_null.issuperset(with_null)
        if is_asked and is_known:
            return
        if not self._is_asked_many:
            self._require_same_among_many(rows, answered)
        if rows.num_rows > 1 and not self._is_asked_alone:
            self._require_same_alone(rows, answered)
        count = self._seen_with(rows)
        if count < 2 or (is_known and count < 2 * self._asked_rows):
            self._remember(rows)
            return
        rows, is_more = self._among_first(rows)
        places = _sampled(rows, self._features, [name for name in with_null if name not in self._with_null])
        sample = _take(rows, places)
        texts = [] if self._asked_rows >= _SAMPLE_ROWS else self._features
        companies = [*_companies(sample, self._features, texts)]
        if not companies:
            return  # rows that are all alike show nothing
        is_answered = not is_more and len(places) == rows.num_rows
        known = answered if is_answered else self._asked(sample)
        if known is not None and is_more and not self._is_asked_alone:
            self._require_same_alone(sample, known)
        self._require_same_in_company(sample, known, companies)

    def _seen_with(self, rows: pa.RecordBatch) -> int:
        """How many rows `_among_first` will return."""
        first = self._first_beside(rows)
        return int(rows.num_rows if first is None else first.num_rows + rows.num_rows)

    def _first_beside(self, rows: pa.RecordBatch) -> pa.RecordBatch | None:
        """The first rows, if these are few and of the same columns."""
        first = self._first
        if rows.num_rows >= _SAMPLE_ROWS or first is None or not first.schema.equals(rows.schema):
            return None
        return first

    def _among_first(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, bool]:
        """A small batch in the middle of the first rows, and whether there are such: few rows tell little."""
        first = self._first_beside(rows)
        self._remember(rows)
        if first is None:
            return rows, False
        half = first.num_rows // 2
        return pa.concat_batches([first.slice(0, half), rows, first.slice(half)]), True

    def _remember(self, rows: pa.RecordBatch) -> None:
        """Add a small batch to the first rows, while these are few."""
        first = self._first_beside(rows)
        if first is None and rows.num_rows < _SAMPLE_ROWS:
            self._first = rows
        elif first is not None and first.num_rows < _SAMPLE_ROWS:
            self._first = pa.concat_batches([first, rows])

    def _require_same_among_many(self, rows: pa.RecordBatch, answered: pa.RecordBatch) -> None:
        """Ask about copies of a small batch, which begin with the batch itself."""
        self._is_asked_many = True
        if rows.num_rows >= _MANY_ROWS:
            return
        copies = _take(rows, [place % rows.num_rows for place in range(_MANY_ROWS)])
        if (found := self._asked(copies)) is None:
            return
        found = found.slice(0, rows.num_rows)
        changed = _differing(answered, found, _TOLERANCE_ALONE)
        if changed.any(axis=1).mean() < _LEAST_SHARE_ALONE:
            return
        again = self._asked(copies)
        if again is not None and not _differing(found, again.slice(0, rows.num_rows), _TOLERANCE_ALONE).any():
            here = "alone" if rows.num_rows == 1 else f"among {rows.num_rows} rows"
            self._refuse(answered, found, changed, here, f"among {_MANY_ROWS}")

    def _require_same_alone(self, rows: pa.RecordBatch, answered: pa.RecordBatch) -> None:
        self._is_asked_alone = True
        places = sorted(set(np.linspace(0, rows.num_rows - 1, _ALONE).astype(int).tolist()))
        expected, found = _take(answered, places), self._asked_alone(rows, places)
        if found is None:
            return
        changed = _differing(expected, found, _TOLERANCE_ALONE)
        if changed.any(axis=1).mean() < _LEAST_SHARE_ALONE:
            return
        again = self._asked_alone(rows, places)
        if again is not None and not _differing(found, again, _TOLERANCE_ALONE).any():
            self._refuse(expected, found, changed, f"among {rows.num_rows} rows", "alone")

    def _require_same_in_company(
        self, sample: pa.RecordBatch, expected: pa.RecordBatch | None, companies: Sequence[Company]
    ) -> None:
        if expected is not None:
            for company, kept in companies:
                self._require_same_beside(sample, expected, company, kept)
        self._asked_rows = max(self._asked_rows, sample.num_rows)
        # What fills in the value of the row before, or of the next one, finds none at an end.
        inner = sample.slice(1, sample.num_rows - 2) if sample.num_rows > 2 else sample
        self._with_null.update(name for name in self._features if _has_missing(inner.column(name)))

    def _require_same_beside(
        self, sample: pa.RecordBatch, expected: pa.RecordBatch, company: list[int], kept: list[int]
    ) -> None:
        others = _take(sample, company)
        if (found := self._asked(others)) is None:
            return  # it does not take such company; if that matters, `predict` tells
        ours, theirs = _take(expected, kept), _take(found, kept)
        changed = _differing(ours, theirs, _TOLERANCE)
        if not changed.any():
            return
        for known, again in ((expected, self._asked(sample)), (found, self._asked(others))):
            if again is None or _differing(known, again, _TOLERANCE).any():
                return  # it never answers the same twice
        count = sample.num_rows
        self._refuse(ours, theirs, changed, f"among {count} rows", f"among {count} others")

    def _asked(self, rows: pa.RecordBatch) -> pa.RecordBatch | None:
        try:
            return self._ask(rows)
        except InputUndecided:
            raise
        except (FeatureError, ArtifactError):
            return None

    def _asked_alone(self, rows: pa.RecordBatch, places: Sequence[int]) -> pa.RecordBatch | None:
        answers = [self._asked(rows.slice(place, 1)) for place in places]
        known = [answer for answer in answers if answer is not None]
        return pa.concat_batches(known) if len(known) == len(answers) else None

    def _refuse(
        self, expected: pa.RecordBatch, found: pa.RecordBatch, changed: Mask, here: str, there: str
    ) -> None:
        place, column = map(int, np.argwhere(changed)[0])
        one, other = (repr(answers.column(column)[place].as_py()) for answers in (expected, found))
        raise AnswersOfNeighbours(
            f"the model in '{self._uri}' gives a row an answer that depends on the other rows: "
            f"'{expected.schema.names[column]}' of one row is {one} {here} and {other} {there}, so it would "
            "depend on `batch_rows` and on the query's order; compute differences, ranks, averages over "
            "rows, and what fills in missing values, in the query (with a window function) or in training; "
            "or if you want such answers, write a signature (`mlops sign`) with such rows, which marks "
            "them as not stable"
        )


def _sampled(rows: pa.RecordBatch, features: Sequence[str], new: Sequence[str]) -> list[int]:
    """Places of rows, in their order: some of all parts of the batch, with NULL, and with the last texts."""
    places = {*np.linspace(0, rows.num_rows - 1, min(_SAMPLE_ROWS, rows.num_rows)).astype(int).tolist()}
    for name in new[:_MOST_WITH_NULL]:
        with_null = pc.indices_nonzero(rows.column(name).is_null(nan_is_null=True))
        places |= {with_null[0].as_py(), with_null[-1].as_py()}
    return sorted(places | {*_last_texts(rows, features)})


def _last_texts(rows: pa.RecordBatch, features: Sequence[str]) -> list[int]:
    """The place of the last text, in their order, in each of some columns.

    Code that numbers the texts of a batch gives it the greatest number, and 0 among copies of itself.
    """
    places = []
    for name in [name for name in features if is_text(rows.schema.field(name).type)][:_MOST_TEXTS]:
        texts = rows.column(name)
        texts = texts.dictionary_decode() if isinstance(texts, pa.DictionaryArray) else texts
        if texts.null_count < len(texts):
            places.append(pc.index(texts, pc.max(texts)).as_py())
    return sorted(set(places))


def _companies(sample: pa.RecordBatch, features: Sequence[str], texts: Sequence[str]) -> Iterator[Company]:
    """Other rows to ask about than those of the sample; copies of the row with the last of some `texts` too.

    Whatever is replaced gets a row with the same missing values. Company that changes nothing is left out.
    """
    rows = sample.select(list(features))
    alike = [*_with_same_nulls(rows)]
    for side in (0, 1):
        company, kept = list(range(rows.num_rows)), []
        for places in alike:
            for at, place in enumerate(places):
                if len(places) == 1 or at % 2 == side:
                    kept.append(place)
                else:
                    company[place] = places[at - 1 if at else 1]
        if kept and not _take(rows, company).equals(rows):
            yield company, sorted(kept)
    if any(map(_has_missing, rows.columns)):  # else means may happen to be the same
        company = list(range(rows.num_rows))
        for places in alike:
            for place in places:
                company[place] = places[0]
        if not _take(rows, company).equals(rows):
            yield company, sorted(places[0] for places in alike)
    for last in _last_texts(rows, texts):
        (places,) = (places for places in alike if last in places)
        company = [last if place in places else place for place in range(rows.num_rows)]
        if not _take(rows, company).equals(rows):
            yield company, [last]


def _with_same_nulls(rows: pa.RecordBatch) -> Iterator[list[int]]:
    """The places of rows that miss the same values, in their order."""
    groups = defaultdict(list)
    masks = [column.is_null(nan_is_null=True).to_pylist() for column in rows.columns if _has_missing(column)]
    for place, pattern in enumerate(zip(*masks, strict=True) if masks else [()] * rows.num_rows):
        groups[pattern].append(place)
    yield from groups.values()


def _has_missing(column: pa.Array) -> bool:
    """Whether a value is NULL, or NaN beside others."""
    if column.null_count or len(column) < 2 or not pa.types.is_floating(column.type):
        return bool(column.null_count)
    numbers = doubles_of(column if pa.types.is_float64(column.type) else column.cast(pa.float64()))
    return bool(np.isnan(numbers).any())


def _take(rows: pa.RecordBatch, places: Sequence[int]) -> pa.RecordBatch:
    return rows.take(array_of_numbers(np.array(places)))


def _differing(one: pa.RecordBatch, other: pa.RecordBatch, tolerance: float) -> Mask:
    """Rows x columns."""
    return np.column_stack(
        [_differ(*pair, tolerance) for pair in zip(one.columns, other.columns, strict=True)]
    )


def _differ(one: pa.Array, other: pa.Array, tolerance: float) -> Mask:
    if not pa.types.is_floating(one.type):
        return np.array([a != b for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True)])
    numbers, others = (doubles_of(each.cast(pa.float64())) for each in (one, other))
    finite = np.abs(numbers[np.isfinite(numbers)])
    scale = np.maximum(np.abs(numbers), np.median(finite) if len(finite) else 0.0)
    with np.errstate(invalid="ignore"):
        is_close = np.abs(numbers - others) <= tolerance * scale
    is_same = is_close | (numbers == others) | (np.isnan(numbers) & np.isnan(others))
    return np.asarray(~is_same)
