"""Whether training had a column as integers, or as the floats that pandas makes of them beside NULLs.

Code of the user's own may tell 1 from 1.0. Some fitted estimators tell what they saw. If none does, the
runtime asks the model both ways, and predicts only if the answers are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import FeatureError, InputUndecided
from mlops_plugin.formats.estimator_walk import Reader, is_own
from mlops_plugin.formats.model_input import InputSpec
from mlops_plugin.formats.outputs import Answers, Values

TOLERANCE = 1e-9  # relative: columns of another type lie elsewhere in memory, where sums round otherwise
Ask = Callable[[InputSpec], Answers]
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


def imputed_as(readers: Sequence[Reader], rows: pa.Schema, *, is_foreign: bool) -> str | None:
    """The kind of number that an imputer of a column was fitted on: `i`, `f`, or None if it does not tell.

    An imputer keeps one type for all its columns: floats for whole numbers if one of them was of floats. That
    says nothing of a single one, which code of the user's own (`is_foreign`) may see as well.
    """
    for reader in readers:
        if type(reader.step).__name__ != "SimpleImputer" or not is_own(reader.step):
            continue
        kind = np.dtype(getattr(reader.step, "_fit_dtype", object)).kind
        is_whole = all(pa.types.is_integer(rows.field(name).type) for name in reader.columns)
        if is_whole and (kind == "i" or (kind == "f" and (len(reader.columns) == 1 or not is_foreign))):
            return kind
    return None


def undecided_of(spec: InputSpec) -> list[str]:
    """The columns that training may have had in another type."""
    if spec.container == "matrix" and spec.matrix_dtype is not None:
        return []
    return [column.name for column in spec.columns if column.is_undecided]


def decided_answers(ask: Ask, spec: InputSpec, rows: pa.RecordBatch) -> Answers:
    """The answers to `spec`, or to the other types of its columns if the model takes only those.

    Raises `InputUndecided` if they depend on what nobody knows about training. A model that refuses a
    column's type was not trained on it.
    """
    doubtful = [name for name in undecided_of(spec) if rows.column(name).null_count < rows.num_rows]
    try:
        answers = ask(spec)
    except FeatureError:
        if (found := _otherwise(ask, spec, doubtful)) is None:
            raise
        return found
    _require_decided(ask, spec, doubtful, answers)
    return answers


def _otherwise(ask: Ask, spec: InputSpec, doubtful: Sequence[str]) -> Answers | None:
    """The answers if these columns have their other types; None if the model refuses them as well."""
    if not doubtful:
        return None
    try:
        answers = ask(_with_others(spec, doubtful))
    except FeatureError:
        return None
    alone = []
    for name in doubtful if len(doubtful) > 1 else ():
        others = [other for other in doubtful if other != name]
        if _answers_alike(ask, spec, others, answers) is False:
            alone.append(name)
    if alone:
        raise InputUndecided(_in_words(alone))
    return answers


def _require_decided(ask: Ask, spec: InputSpec, doubtful: Sequence[str], answers: Answers) -> None:
    """Raise `InputUndecided` if the model answers otherwise when a column has its other type."""
    if not doubtful or _answers_alike(ask, spec, doubtful, answers):
        return
    alone = [name for name in doubtful if _answers_alike(ask, spec, [name], answers) is False]
    if len(doubtful) > 1 and not alone:
        # All together it takes them otherwise or not at all, each alone it does not care about.
        alone = [*doubtful] if _answers_alike(ask, spec, doubtful, answers) is False else []
    if alone and _answers_alike(ask, spec, [], answers):  # else it never answers the same twice
        raise InputUndecided(_in_words(alone))


def _with_others(spec: InputSpec, names: Sequence[str]) -> InputSpec:
    columns = (column.otherwise() if column.name in names else column for column in spec.columns)
    return replace(spec, columns=tuple(columns))


def _answers_alike(ask: Ask, spec: InputSpec, others: Sequence[str], answers: Answers) -> bool | None:
    """Whether the answers are the same if these columns have their other type; None if it refuses them."""
    try:
        found = ask(_with_others(spec, others))
    except FeatureError:
        return None
    pairs = zip(_values(answers), _values(found), strict=False)
    return len(list(_values(answers))) == len(list(_values(found))) and all(
        _are_same(*pair) for pair in pairs
    )


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


def _in_words(names: Sequence[str]) -> str:
    columns = ", ".join(f"'{name}'" for name in names)
    return (
        f"the model's file does not record the type that {columns} had in training: whole numbers "
        "(booleans), "
        "or the floats (objects) that pandas makes of them if NULLs are among them, and the model's answers "
        f"differ; set `model: {{dtypes: {{{names[0]}: integer}}}}` or `number` (`boolean` or `object`), "
        "or write a signature where the model is trained"
    )
