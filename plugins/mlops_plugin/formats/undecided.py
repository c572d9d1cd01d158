"""Whether training had a column as integers, or as the floats that pandas makes of them beside NULLs.

Code of the user's own may tell 1 from 1.0. Some fitted estimators tell what they saw. If none does, the
runtime asks the model both ways, and predicts only if the answers are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pyarrow as pa

from mlops_plugin.arrow_values import array_of_numbers
from mlops_plugin.errors import FeatureError, InputUndecided
from mlops_plugin.formats.estimator_walk import Reader, is_own
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
_FLOAT = re.compile(r"-?\d+\.0")
_WHOLE = re.compile(r"-?\d+")


def written_as(encoded: Sequence[tuple[str | None, str]], name: str) -> str | None:
    """How code before some encoders wrote whole numbers: `f` as '1.0', `i` as '1', None if they do not tell.

    An encoder that knows the column by its name tells more than others do.
    """
    own = [text for column, text in encoded if column == name]
    known = own or [text for _, text in encoded]
    floats, integers = (any(map(form.fullmatch, known)) for form in (_FLOAT, _WHOLE))
    if floats == integers:
        return None
    return "f" if floats else "i"


def trained_otherwise(encoded: Sequence[tuple[str | None, str]], name: str | None, dtype: str) -> str | None:
    """In which other type code before an encoder had a column, by the encoder's texts; None: nothing tells.

    'True' was a boolean, and '1' a whole number, if the code has written them. `name` None: all are its own.
    """
    known = [text for column, text in encoded if name in (column, None)]
    floats, integers = (any(map(form.fullmatch, known)) for form in (_FLOAT, _WHOLE))
    are_booleans = not {"True", "False"}.isdisjoint(known)
    if floats or are_booleans == integers:
        return None
    wanted = "bool" if are_booleans else "int64"
    return wanted if wanted != dtype else None


def imputed_as(readers: Sequence[Reader], rows: pa.Schema, *, is_foreign: bool) -> str | None:
    """The kind of number that an imputer of a column was fitted on: `i`, `f`, or None if it does not tell.

    An imputer keeps one type for all its columns: floats for whole numbers if one of them was of floats. That
    says nothing of a single one, which code of the user's own (`is_foreign`) may see as well.
    """
    for reader in readers:
        if type(reader.step).__name__ != "SimpleImputer" or not is_own(reader.step):
            continue
        kind = np.dtype(getattr(reader.step, "_fit_dtype", object)).kind
        known = [rows.field(name).type for name in reader.columns if name in rows.names]
        is_whole = len(known) == len(reader.columns) and all(map(pa.types.is_integer, known))
        if is_whole and (kind == "i" or (kind == "f" and (len(reader.columns) == 1 or not is_foreign))):
            return kind
    return None


def undecided_of(spec: InputSpec) -> list[str]:
    """The columns that training may have had in another type."""
    if spec.container == "matrix" and spec.matrix_dtype is not None:
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
        doubtful = tuple(name for name in undecided_of(spec) if rows.column(name).null_count < rows.num_rows)
        if not doubtful:
            return self._ask(spec, rows)
        asked = _Asked(self._ask, spec, rows, doubtful)
        answers = asked.decided(asked.whole())
        if asked.is_refused:
            return answers
        if spec.container != "matrix":  # of numbers of two types, an array makes one
            self._require_decided_in_mixtures(spec, rows, doubtful)
        return answers

    def _require_decided_in_mixtures(self, spec: InputSpec, rows: pa.RecordBatch, doubtful: Mixture) -> None:
        """Code that compares two columns may see a difference only if one of them alone is of floats."""
        tried = self._mixed_rows.get((spec, doubtful), 0)
        if tried >= _MIXED_ROWS or len(doubtful) == 1:
            return
        places = np.linspace(0, rows.num_rows - 1, min(_MIXED_ROWS, rows.num_rows)).astype(int)
        asked = _Asked(self._ask, spec, rows.take(array_of_numbers(places)), doubtful)
        accepted = asked.accepted([(), *_pairwise(doubtful)])
        if accepted:
            asked.decided(accepted)
        self._mixed_rows[spec, doubtful] = tried + len(places)


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
        columns = (column.otherwise() if column.name in mixture else column for column in self._spec.columns)
        return self._ask(replace(self._spec, columns=tuple(columns)) if mixture else self._spec, self._rows)

    def _explained(self, refusal: FeatureError) -> FeatureError:
        """With what to do if types are why the model refuses the rows, unless all of them were tried."""
        if len(self._doubtful) <= _MOST_MIXED or self._spec.container == "matrix":
            return refusal
        explained = FeatureError(
            f"{refusal}; it also refuses them if all of {self._listed(self._doubtful)} are "
            f"{self._other_type(self._doubtful[0])}, and the model's file does not record which of them were "
            f"in training: {self._remedy(self._doubtful)}"
        )
        explained.__cause__ = refusal
        return explained

    def _in_words(self, names: Sequence[str]) -> str:
        if any(column.other for column in self._spec.columns if column.name in names):
            dtypes = ", ".join(f"{name}: {self._plain_type(name)}" for name in names[:_MOST_NAMED])
            return (
                f"an encoder in the model knows {self._listed(names)} in the writing of another type than "
                f"the query's, and the model's answers differ: set `model: {{dtypes: {{{dtypes}}}}}` with "
                "the types of training (boolean, integer, number), or write a signature"
            )
        return (
            f"the model's file does not record the type that {self._listed(names)} had in training: whole "
            "numbers (booleans), or the floats (objects) that pandas makes of them if NULLs are among them, "
            f"and the model's answers differ: {self._remedy(names)}"
        )

    def _remedy(self, names: Sequence[str]) -> str:
        dtypes = ", ".join(f"{name}: {self._plain_type(name)}" for name in names[:_MOST_NAMED])
        more = ", ..." if len(names) > _MOST_NAMED else ""
        words = sorted({(self._plain_type(name), self._other_word(name)) for name in names})
        instead = " and ".join(f"`{other}` instead of `{plain}`" for plain, other in words)
        return (
            f"set `model: {{dtypes: {{{dtypes}{more}}}}}`, with {instead} for a column that had NULLs in "
            "training; or write a signature: write_signature where the model is trained, or "
            "`mlops sign MODEL --rows FILE` with rows of training"
        )

    def _plain_type(self, name: str) -> str:
        others = {column.name: column.other for column in self._spec.columns}
        if (other := others.get(name)) is not None:
            return "boolean" if other == "bool" else "integer"
        return "boolean" if self._is_boolean(name) else "integer"

    def _other_word(self, name: str) -> str:
        return "object" if self._is_boolean(name) else "number"

    def _other_type(self, name: str) -> str:
        return "objects" if self._is_boolean(name) else "floats"

    def _is_boolean(self, name: str) -> bool:
        return any(column.name == name and column.dtype == "bool" for column in self._spec.columns)

    def _listed(self, names: Sequence[str]) -> str:
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return ", ".join(f"'{name}'" for name in names[:_MOST_NAMED]) + more


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
