"""Whether training had a column as integers, or as the floats that pandas makes of them beside NULLs.

Code of the user's own may tell 1 from 1.0. Some fitted estimators tell what they saw. If none does, the
runtime asks the model both ways, and predicts only if the answers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.arrow_values import array_of_numbers
from mlops_plugin.errors import FeatureError, InputUndecided
from mlops_plugin.formats.column_values import ColumnSpec, decoded
from mlops_plugin.formats.model_input import InputSpec
from mlops_plugin.formats.outputs import Answers, Values

TOLERANCE = 1e-9  # relative: columns of another type lie elsewhere in memory, where sums round otherwise
Ask = Callable[[InputSpec, pa.RecordBatch], Answers]
Mixture = tuple[str, ...]  # the columns that have their other type, in the order of the doubtful ones

# Of so many columns, all mixtures of types are tried if the model refuses one type for all of them.
_MOST_MIXED = 4
# A model that takes one type for all columns is asked in mixtures about so many rows, once.
_MIXED_ROWS = 32
_MOST_ALONE = 100  # columns that are asked one by one, to name those that decide
_MOST_NAMED = 10  # columns in an error
_NUMBER = r"^-?\d+(\.\d+)?$"
_JSON = r'^\s*[\[{"]'  # PostgreSQL's drivers for Python parse a column of JSON; other databases give texts


def undecided_of(spec: InputSpec) -> list[str]:
    """The columns that training may have had in another type."""
    if spec.container in ("polars", "arrow") or (
        spec.container == "matrix" and spec.matrix_dtype is not None
    ):
        return []
    return [column.name for column in spec.columns if column.is_undecided]


class Doubts:
    """Answers of a model, if they do not depend on what nobody knows about training."""

    def __init__(self, ask: Ask) -> None:
        """`ask` raises `FeatureError` for a table that the model refuses."""
        self._ask = ask
        self._mixed_rows: dict[tuple[InputSpec, Mixture], int] = {}

    def answers(self, spec: InputSpec, rows: pa.RecordBatch) -> Answers:
        """The answers to `spec`, or to the other types of its columns if the model takes only those.

        Raises `InputUndecided` if two types that the model takes give two answers. A model that refuses a
        column's type was not trained on it.
        """
        documents = _json_columns(spec, rows)
        if not documents:
            return self._of_texts(spec, rows)
        asked = _Asked(self._ask, _replaced(spec, documents, other="json"), rows, documents)
        parsed = asked.accepted([documents])
        if not parsed:
            return self._of_texts(spec, rows)
        try:
            answers = self._of_texts(spec, rows)
        except InputUndecided:
            raise
        except FeatureError:
            return self._of_texts(_replaced(spec, documents, dtype="json", missing="none"), rows)
        asked.decided({**parsed, (): answers})
        return answers

    def _of_texts(self, spec: InputSpec, rows: pa.RecordBatch) -> Answers:
        """The answers if texts are texts, even those that hold JSON."""
        in_doubt = _in_doubt(spec, rows)
        if any(column.is_instant for column in in_doubt):
            self._require_decided_units(spec, rows, tuple(column.name for column in in_doubt))
        doubtful = tuple(column.name for column in in_doubt if not column.is_instant)
        if not doubtful:
            return self._ask(spec, rows)
        asked = _Asked(self._ask, spec, rows, doubtful)
        answers = asked.decided(asked.whole())
        if asked.is_refused:
            return answers
        if spec.container != "matrix":  # of numbers of two types, an array makes one
            self._require_decided_in_mixtures(spec, rows, doubtful)
        return answers

    def _require_decided_units(self, spec: InputSpec, rows: pa.RecordBatch, doubtful: Mixture) -> None:
        """Code that takes times for numbers of their units shows it in any row."""
        tried = self._mixed_rows.get((spec, doubtful), 0)
        if tried >= _MIXED_ROWS:
            return
        sample = _spread(rows)
        asked = _Asked(self._ask, spec, sample, doubtful)
        asked.decided(asked.whole())
        self._mixed_rows[spec, doubtful] = tried + sample.num_rows

    def _require_decided_in_mixtures(self, spec: InputSpec, rows: pa.RecordBatch, doubtful: Mixture) -> None:
        """Code that compares two columns may see a difference only if one of them alone is of floats."""
        tried = self._mixed_rows.get((spec, doubtful), 0)
        if tried >= _MIXED_ROWS or len(doubtful) == 1:
            return
        sample = _spread(rows)
        asked = _Asked(self._ask, spec, sample, doubtful)
        accepted = asked.accepted([(), *_pairwise(doubtful)])
        if accepted:
            asked.decided(accepted)
        self._mixed_rows[spec, doubtful] = tried + sample.num_rows


@dataclass(frozen=True)
class _Words:
    """What `dtypes:` says for each of the two types that a column may have had; None: the dtype itself."""

    plain: str | None
    other: str | None
    choice: str
    which: str


_HAD_NULLS = "a column that had NULLs in training"
_NUMBERS = (
    "whole numbers (booleans), or the floats (objects) that pandas makes of them if NULLs are among them"
)
_WORDS = {
    "integer": _Words("integer", "number", _NUMBERS, _HAD_NULLS),
    "boolean": _Words("boolean", "object", _NUMBERS, _HAD_NULLS),
    "date": _Words("date", None, "dates, or the datetime64 that pandas parses", "a column of datetime64"),
    "instant": _Words(None, None, "times in microseconds, or in nanoseconds", "a column of nanoseconds"),
    "text": _Words("text", "object", "texts with NaN for NULL, or with None", "a column with None"),
    "json": _Words("text", "json", "texts, or what Python's json makes of them", "a column of dict or list"),
}


class _Asked:
    """What a model answers about some rows if its doubtful columns have this or that type."""

    def __init__(self, ask: Ask, spec: InputSpec, rows: pa.RecordBatch, doubtful: Mixture) -> None:
        self._ask, self._spec, self._rows = ask, spec, rows
        self._doubtful = doubtful
        self._refusal: FeatureError | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the model has refused one of the tables."""
        return self._refusal is not None

    def whole(self) -> dict[Mixture, Answers]:
        """The answers for one type for all columns; for mixtures as well, if the model refuses that."""
        doubtful = self._doubtful
        accepted = self.accepted([(), doubtful])
        if len(accepted) < 2 and self._spec.container != "matrix":
            if len(doubtful) <= _MOST_MIXED:
                sizes = range(1, len(doubtful))
                accepted |= self.accepted(mix for size in sizes for mix in combinations(doubtful, size))
            elif accepted:
                (known,) = accepted
                accepted |= self.accepted(self._turned(known, name) for name in doubtful)
        if not accepted:
            assert self._refusal is not None  # noqa: S101 - else there is an answer
            raise self._explained(self._refusal)
        return accepted

    def accepted(self, mixtures: Iterable[Mixture]) -> dict[Mixture, Answers]:
        """The answers for the mixtures that the model does not refuse."""
        found = {}
        for mixture in mixtures:
            try:
                found[mixture] = self._about(mixture)
            except FeatureError as error:
                self._refusal = self._refusal or error
        return found

    def decided(self, accepted: dict[Mixture, Answers]) -> Answers:
        """The first of these answers, at least one; raises `InputUndecided` if they are not all the same."""
        (known, answers), *others = accepted.items()
        differing = [mixture for mixture, found in others if not _are_alike(answers, found)]
        if differing and _are_alike(answers, self._about(known)):  # else it never answers the same twice
            raise InputUndecided(self._in_words(self._decisive(known, differing, answers)))
        return answers

    def _decisive(self, known: Mixture, differing: Sequence[Mixture], answers: Answers) -> list[str]:
        """The columns whose types decide: those that do so alone, or else the fewest that do together."""
        turned = [{*known} ^ {*mixture} for mixture in differing]
        names = sorted(set().union(*turned))
        if len(names) <= _MOST_ALONE:
            alone = self.accepted(self._turned(known, name) for name in names)
            single = [mixture for mixture, found in alone.items() if not _are_alike(answers, found)]
            turned = [{*known} ^ {*mixture} for mixture in single] or turned
        fewest = min(map(len, turned))
        decisive = set().union(*(columns for columns in turned if len(columns) == fewest))
        return [name for name in self._doubtful if name in decisive]

    def _turned(self, mixture: Mixture, name: str) -> Mixture:
        """The mixture with the other type for this column."""
        return tuple(one for one in self._doubtful if (one in mixture) != (one == name))

    def _about(self, mixture: Mixture) -> Answers:
        if not mixture:
            return self._ask(self._spec, self._rows)
        columns, rows = [], self._rows
        for column in self._spec.columns:
            if column.name in mixture:
                if _is_rewritten(column) and column.is_text:
                    rows = self._with_numbers(rows, column.name)
                column = column.otherwise()
            columns.append(column)
        return self._ask(replace(self._spec, columns=tuple(columns)), rows)

    def _with_numbers(self, rows: pa.RecordBatch, name: str) -> pa.RecordBatch:
        """The rows with the numbers that a column of texts holds; of texts beside numbers, nobody knows."""
        texts, place = decoded(rows.column(name)), rows.schema.get_field_index(name)
        if _written_numbers(texts) < len(texts) - texts.null_count:
            raise InputUndecided(self._in_words([name]))
        return rows.set_column(place, name, texts.cast(pa.float64()))

    def _explained(self, refusal: FeatureError) -> FeatureError:
        """With what to do if types are why the model refuses the rows, unless all of them were tried."""
        if len(self._doubtful) <= _MOST_MIXED or self._spec.container == "matrix":
            return refusal
        explained = FeatureError(
            f"{refusal}; it also refuses them if all of {self._listed(self._doubtful)} have their other "
            "type, and the model's file does not record which of them had it in training: "
            f"{self._remedy(self._doubtful)}"
        )
        explained.__cause__ = refusal
        return explained

    def _in_words(self, names: Sequence[str]) -> str:
        if any(map(_is_rewritten, map(self._column, names))):
            dtypes = ", ".join(f"{name}: {self._plain_type(name)}" for name in names[:_MOST_NAMED])
            return (
                f"an encoder in the model knows {self._listed(names)} in the writing of another type than "
                f"the query's, and the model's answers differ: set `model: {{dtypes: {{{dtypes}}}}}` with "
                "the types of training (boolean, integer, number, text), and cast the query's columns to "
                "them if it says so, or write a signature"
            )
        columns = [column for column in self._spec.columns if column.name in names]
        choices = "; ".join(dict.fromkeys(_WORDS[_kind(column)].choice for column in columns))
        return (
            f"the model's file does not record the type that {self._listed(names)} had in training: "
            f"{choices}, and the model's answers differ: {self._remedy(names)}"
        )

    def _remedy(self, names: Sequence[str]) -> str:
        dtypes = ", ".join(f"{name}: {self._plain_type(name)}" for name in names[:_MOST_NAMED])
        more = ", ..." if len(names) > _MOST_NAMED else ""
        words = sorted({(self._plain_type(name), *self._other_type(name)) for name in names})
        instead = " and ".join(f"`{other}` instead of `{plain}` for {which}" for plain, other, which in words)
        return (
            f"set `model: {{dtypes: {{{dtypes}{more}}}}}`, with {instead}; or write a signature: "
            "write_signature where the model is trained, or `mlops sign MODEL --rows FILE` with rows of "
            "training"
        )

    def _column(self, name: str) -> ColumnSpec:
        return next(column for column in self._spec.columns if column.name == name)

    def _plain_type(self, name: str) -> str:
        column = self._column(name)
        if column.other is not None and _is_rewritten(column):
            return {"bool": "boolean", "int64": "integer", "float64": "number"}.get(
                column.other, column.other
            )
        return _WORDS[_kind(column)].plain or column.dtype

    def _other_type(self, name: str) -> tuple[str, str]:
        """What to write instead, and for which columns."""
        column = self._column(name)
        words = _WORDS[_kind(column)]
        return words.other or str(column.other), words.which

    def _listed(self, names: Sequence[str]) -> str:
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return ", ".join(f"'{name}'" for name in names[:_MOST_NAMED]) + more


def _in_doubt(spec: InputSpec, rows: pa.RecordBatch) -> list[ColumnSpec]:
    """The undecided columns of which these rows have values that look otherwise in the other type."""
    names = {*undecided_of(spec)}
    columns = [column for column in spec.columns if column.name in names]
    return [column for column in columns if _looks_otherwise(column, rows.column(column.name))]


def _looks_otherwise(column: ColumnSpec, values: pa.Array) -> bool:
    if column.is_text:  # NULL alone has two looks, unless training may have had numbers
        return bool(values.null_count if column.other is None else _written_numbers(decoded(values)))
    return bool(values.null_count < len(values))


def _is_rewritten(column: ColumnSpec) -> bool:
    """Whether an encoder knows its values, written otherwise."""
    return column.other not in (None, "json") and (column.is_numeric or column.is_text)


def _json_columns(spec: InputSpec, rows: pa.RecordBatch) -> Mixture:
    """The undecided columns of texts of which some look like JSON."""
    names = {*undecided_of(spec)}
    columns = [each for each in spec.columns if each.name in names and each.is_text and each.other is None]
    return tuple(each.name for each in columns if _has_json(decoded(rows.column(each.name))))


def _has_json(texts: pa.Array) -> bool:
    return bool(pa.types.is_string(texts.type) and pc.any(pc.match_substring_regex(texts, _JSON)).as_py())


def _replaced(spec: InputSpec, names: Mixture, **changes: Any) -> InputSpec:
    """The specification with other columns of these names, which are decided if they get a type."""
    changes |= {"is_undecided": "dtype" not in changes}
    columns = (replace(each, **changes) if each.name in names else each for each in spec.columns)
    return replace(spec, columns=tuple(columns))


def _written_numbers(texts: pa.Array) -> int:
    """How many of the texts are numbers."""
    return int(pc.sum(pc.match_substring_regex(texts, _NUMBER)).as_py() or 0)


def _spread(rows: pa.RecordBatch) -> pa.RecordBatch:
    places = np.linspace(0, rows.num_rows - 1, min(_MIXED_ROWS, rows.num_rows)).astype(int)
    return rows.take(array_of_numbers(places))


def _kind(column: ColumnSpec) -> str:
    if column.other == "json":
        return "json"
    if column.is_numeric:
        return "boolean" if column.dtype == "bool" else "integer"
    return "text" if column.is_text else "instant" if column.is_instant else "date"


def _pairwise(names: Mixture) -> Iterator[Mixture]:
    """Few mixtures in which of each two columns now the one, now the other has its other type."""
    for bit in range((len(names) - 1).bit_length()):
        for side in (0, 1):
            yield tuple(name for place, name in enumerate(names) if (place >> bit) & 1 == side)


def _are_alike(one: Answers, other: Answers) -> bool:
    ours, theirs = [*_values(one)], [*_values(other)]
    return len(ours) == len(theirs) and all(map(_are_same, ours, theirs))


def _values(answers: Answers) -> Iterator[Values]:
    yield from answers.predictions
    yield from answers.probabilities
    if answers.scores is not None:
        yield answers.scores


def _are_same(one: Values, other: Values) -> bool:
    if one.shape != other.shape:
        return False
    kinds = {one.dtype.kind, other.dtype.kind}
    if "f" in kinds and kinds <= set("fiub"):  # 5 and 5.0 are one answer
        return bool(np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
    return [str(value) for value in one.ravel()] == [str(value) for value in other.ravel()]
