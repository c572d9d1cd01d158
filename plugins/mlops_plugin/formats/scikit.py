"""A scikit-learn estimator as a runtime: rows in by name, predictions, probabilities and scores out."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from mlops_plugin.errors import ArtifactError, FeatureError, InputUndecided, MlopsError
from mlops_plugin.formats.boosting import Look, category_writing
from mlops_plugin.formats.estimator_walk import ends_of, holds_foreign_code, known_names, may_change_rows
from mlops_plugin.formats.features import infinite_counts, is_number, null_counts
from mlops_plugin.formats.input_rules import InputRules, StatedInput
from mlops_plugin.formats.model_input import InputSpec, SignedSpec
from mlops_plugin.formats.neighbours import OwnAnswers
from mlops_plugin.formats.outputs import Answers, OutputColumns, ask, has_scores, output_columns
from mlops_plugin.formats.runtime import LEARNED_ROWS, REFUSES_INFINITE, REFUSES_NULL, SAMPLE_ROWS
from mlops_plugin.formats.signature.signed_input import with_categories_of
from mlops_plugin.formats.undecided import Doubts, undecided_of

# A whole word: 'finance', 'Hernan' and 'na coluna' say nothing of missing values.
_SAYS_NULL = re.compile(r"\b(nans?|nulls?|none(type)?|natype|nattype|missing|(?-i:NA|NaT))\b", re.IGNORECASE)
# What a model raises for want of something outside of the rows; another try may find it.
_NOT_ABOUT_ROWS = (OSError, MemoryError)
_NO_NAMES = "X does not have valid feature names"


class Rules(Protocol):
    """Decides which table a model without a signature reads."""

    def specs(self, rows: pa.Schema) -> list[InputSpec]:
        """The tables for rows of this schema, the likeliest first; raises `FeatureError` if none is right."""

    def example(self) -> dict[str, Any]:
        """A made-up row."""


class ScikitRuntime:
    """Anything with `predict`: estimators, pipelines, searches, and other libraries that do the same."""

    packages = None

    def __init__(
        self,
        uri: str,
        artifact_sha256: str,
        model: Any,
        features: tuple[str, ...] | None,
        *,
        stated: StatedInput | None = None,
        signed: SignedSpec | None = None,
    ) -> None:
        """`stated`: what the configuration says of the input; `signed`: all of it, from a signature."""
        _require_fitted(uri, model)
        self._uri = uri
        self.artifact_sha256 = artifact_sha256
        self._model = model
        self._has_scores = has_scores(model)
        self._changes_rows = may_change_rows(model)
        spec = None if signed is None else with_categories_of(model, signed.spec)
        self.signature_sha256 = None if signed is None else signed.sha256
        self.features = spec.names if spec is not None else _feature_names(uri, model, features)
        _require_unique(uri, self.features)
        self._rules = None if spec is not None else self._input_rules(model, stated or StatedInput())
        self._given = spec
        self._believed = (stated.dtypes if stated is not None else None) or {}
        self._specs: list[InputSpec] = []  # for the schema that `check` has seen last
        self._checked: pa.Schema | None = None
        self._look_at: Look | None = None  # likewise
        self._columns: OutputColumns | None = None
        self._are_columns_seen = False  # in answers about real rows
        self._are_columns_handed_out = False  # to somebody who reads the answers by them
        self._doubts = Doubts(self._ask)
        self._own = None
        if signed is None:
            is_foreign = holds_foreign_code(model)
            self._own = OwnAnswers(uri, self.features, self._answered, asks_many=is_foreign)
        elif signed.missing is not None:
            self._own = OwnAnswers(uri, self.features, self._answered, signed=signed.missing)

    @property
    def outputs(self) -> pa.Schema:
        if self._columns is None:
            self._columns = output_columns(self._model, self._answers_for_made_up_row())
        self._are_columns_handed_out = True
        return self._columns.schema

    def _input_rules(self, model: Any, stated: StatedInput) -> Rules:
        return InputRules(model, self.features, stated)

    @property
    def model(self) -> Any:
        """The model itself."""
        return self._model

    @property
    def libraries(self) -> Mapping[str, str]:
        from mlops_plugin.formats.signature.versions import modules_of, versions_of

        return versions_of(modules_of(self._model))

    @property
    def undecided(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for spec in self._specs for name in undecided_of(spec)))

    def spec_for(self, rows: pa.RecordBatch) -> InputSpec:
        """The table that the model reads, by some real rows; raises `FeatureError` if it refuses them all."""
        self.check(rows.schema)
        if len(self._specs) > 1:
            self._specs = [self._accepted(rows)]
        return self._specs[0]

    def learn_outputs(self, rows: pa.RecordBatch) -> bool:
        """Learn from the first of these rows with which columns the model answers.

        Returns whether that is certain. Rows that it refuses teach nothing, and raise nothing: that is for
        `predict`.
        """
        if self._are_columns_decided() or rows.num_rows == 0:
            return self._are_columns_decided()
        sample = rows.slice(0, SAMPLE_ROWS)
        if not self._learn_from(sample):
            any(self._learn_from(sample.slice(place, 1)) for place in range(sample.num_rows))
        # All answers so far may be missing.
        if rows.num_rows > sample.num_rows and not self._are_columns_decided():
            self._learn_from(rows.slice(0, LEARNED_ROWS))
        return self._are_columns_decided()

    def _learn_from(self, rows: pa.RecordBatch) -> bool:
        with contextlib.suppress(FeatureError, ArtifactError):
            self.check(rows.schema)
            found = output_columns(self._model, self._parts(rows)[0][1])
            known = self._columns if self._are_columns_seen else None
            self._columns = found if known is None else known.completed(found)
            self._are_columns_seen = True
            return True
        return False

    def _are_columns_decided(self) -> bool:
        return self._are_columns_seen and self._columns is not None and not self._columns.undecided

    def check(self, rows: pa.Schema) -> None:
        if self._checked is not None and self._checked.equals(rows):
            return
        if self._rules is None:
            assert self._given is not None  # noqa: S101 - one of the two is there
            self._given.check(rows)
            self._specs = [self._given]
        else:
            self._specs = self._rules.specs(rows)
            # Not by a signature, whose golden rows tell how categories are written.
            self._look_at = category_writing(partial(ends_of, self._model), self.features, self._believed)
        self._checked = rows

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        self.check(rows.schema)
        if rows.num_rows == 0:  # scikit-learn refuses to predict nothing
            return pa.RecordBatch.from_pylist([], schema=self.outputs)
        answered = self._answered(rows)
        if self._own is not None:
            self._own.require(rows, answered)
        return answered

    def _answered(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        parts = self._parts(rows)
        is_open = self._columns is not None and self._columns.undecided and not self._are_columns_seen
        if self._columns is None or (is_open and not self._are_columns_handed_out):
            self._columns = output_columns(self._model, parts[0][1])
            self._are_columns_seen = True
        answered = [
            self._columns.to_arrow(self._uri, answers, rows.num_rows if places is None else len(places))
            for places, answers in parts
        ]
        if len(answered) == 1:
            return answered[0]
        order = np.argsort(np.concatenate([places for places, _ in parts if places is not None]))
        return pa.concat_batches(answered).take(pa.array(order))

    def _parts(self, rows: pa.RecordBatch) -> list[tuple[pa.Int64Array | None, Answers]]:
        """The answers, and to which rows they belong (None: to all of them)."""
        spec = self.spec_for(rows)
        places = spec.parts(rows)
        if places is None:
            return [(None, self._ask_decided(spec, rows))]
        return [(part, self._ask_decided(spec, rows.take(part))) for part in places]

    def _ask_decided(self, spec: InputSpec, rows: pa.RecordBatch) -> Answers:
        """The answers, if they do not depend on what nobody knows about training."""
        return self._doubts.answers(spec, rows)

    def _accepted(self, rows: pa.RecordBatch) -> InputSpec:
        """The first container that the model takes, with an answer for each row; raises the first refusal."""
        # As many rows as a wrong container has entries, one or the features, would hide that it is wrong.
        count = rows.num_rows
        while count in (1, len(self.features)):
            count += 1
        sample = rows.take(pa.array(np.arange(count) % rows.num_rows))
        first: MlopsError | None = None
        for spec in self._specs:
            try:
                spec.check(rows.schema)
                for part in spec.parts(sample) or [pa.array(np.arange(count))]:
                    self._ask_decided(spec, sample.take(part))
            except InputUndecided:
                raise  # it takes this container
            except (FeatureError, ArtifactError) as error:
                first = first or error
            else:
                return spec
        assert first is not None  # noqa: S101 - there is a container to try
        raise first

    def _ask(self, spec: InputSpec, rows: pa.RecordBatch) -> Answers:
        if spec.container == "matrix":
            _ignore_missing_names()
        first = [spec.build(rows)]  # what is wrong with it is not the model's to say

        def make_table() -> Any:
            if not self._changes_rows:
                return first[0]
            return first.pop() if first else spec.build(rows)

        try:
            if self._look_at is not None and spec.container in ("frame", "matrix"):
                self._look_at(make_table)
            return ask(self._uri, self._model, make_table, rows.num_rows, has_scores=self._has_scores)
        except MlopsError:
            raise
        except _NOT_ABOUT_ROWS as exc:
            raise ArtifactError(
                f"the model in '{self._uri}' failed: {type(exc).__name__}: {_first_line(exc)}"
            ) from exc
        except BaseException as exc:
            if not isinstance(exc, Exception) and not _is_models_own(exc):
                raise
            raise FeatureError(_refusal(rows, self.features, exc)) from exc

    def _answers_for_made_up_row(self) -> Answers | None:
        """The answers about one made-up row, if the model gives any; real rows correct what they tell.

        Only they tell how many outputs a regressor has, before there are rows.
        """
        if self._rules is None:
            return None
        row = pa.RecordBatch.from_pylist([self._rules.example()])
        with warnings.catch_warnings(), contextlib.suppress(MlopsError):
            warnings.simplefilter("ignore")  # what the model thinks of a made-up row is of no interest
            for spec in self._rules.specs(row.schema):
                with contextlib.suppress(MlopsError):
                    return self._ask(spec, row)
        return None


def _ignore_missing_names() -> None:
    """A model that knows names is given none: its columns stand in its own order already."""
    action, message, *_ = next(iter(warnings.filters), ("default", None))
    if action != "ignore" or message is None or message.pattern != _NO_NAMES:
        warnings.filterwarnings("ignore", _NO_NAMES, UserWarning)


def _require_fitted(uri: str, model: Any) -> None:
    if not type(model).__module__.startswith(("sklearn.", "imblearn.", "lightgbm.", "xgboost.")):
        return  # a class of the user's own may keep nothing that tells
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError as exc:
        raise ArtifactError(
            f"model file '{uri}' holds a model that was not fitted; fit it before you save it"
        ) from exc
    except Exception:  # noqa: BLE001 - an estimator inside cannot tell; `predict` will
        return


def _feature_names(uri: str, model: Any, configured: tuple[str, ...] | None) -> tuple[str, ...]:
    names = known_names(model)
    if names is not None:
        if configured is not None and set(configured) != set(names):
            raise FeatureError(
                f"`features:` says {', '.join(configured)}, but the model in '{uri}' was trained on "
                f"{', '.join(names)}; remove `features:`, the model stores its own"
            )
        return names
    # CatBoost counts none after loading.
    expected = getattr(model, "n_features_in_", None) or None
    if configured is None:
        count = "its" if expected is None else f"its {expected}"
        raise FeatureError(
            f"the model in '{uri}' was trained without feature names; set `features:` to {count} columns, "
            "in the order of training"
        )
    if expected is not None and len(configured) != expected:
        raise FeatureError(
            f"`features:` names {len(configured)} columns, but the model in '{uri}' was trained on "
            f"{expected}; name them all, in the order of training"
        )
    places = _places_of_statsmodels(model)
    if places != configured and sorted(places) == sorted(configured):
        raise FeatureError(
            f"`features:` says {', '.join(configured)}, but the model in '{uri}' was trained on "
            f"{', '.join(places)}, which it finds by their places; write them in this order"
        )
    return configured


def _places_of_statsmodels(model: Any) -> tuple[str, ...]:
    """The columns that statsmodels was fitted on; empty if a formula finds them by name."""
    fitted = getattr(model, "model", None)
    if not type(model).__module__.startswith("statsmodels.") or hasattr(fitted, "formula"):
        return ()
    return tuple(map(str, getattr(fitted, "exog_names", None) or ()))


def _require_unique(uri: str, names: tuple[str, ...]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise FeatureError(
            f"the model in '{uri}' was trained on several columns called {', '.join(map(repr, twice))}, and "
            "a query's columns are found by name; train it on columns with different names"
        )


def _is_models_own(exc: BaseException) -> bool:
    """Whether the model raised what is no `Exception`, a panic in Rust for one, and not who ends a task."""
    if isinstance(exc, KeyboardInterrupt | GeneratorExit):
        return False
    raised_in = exc.__traceback__
    while raised_in is not None and raised_in.tb_next is not None:
        raised_in = raised_in.tb_next
    module = str(raised_in.tb_frame.f_globals.get("__name__", "")) if raised_in is not None else ""
    # A signal handler runs inside of the model's frames: its module tells whose it is.
    return module.partition(".")[0] not in ("airflow", "mlops_plugin", "signal", "asyncio", "pytest")


def _refusal(rows: pa.RecordBatch, features: tuple[str, ...], exc: BaseException) -> str:
    message = _first_line(exc)
    nulls = _listed(null_counts(rows, features))
    infinite = _listed(infinite_counts(rows, features))
    if nulls and _SAYS_NULL.search(message):
        return (
            f"{REFUSES_NULL}: of {rows.num_rows} rows, {nulls} are NULL or NaN; leave such rows "
            f"out in the query, fill them with COALESCE, or train with an imputer (the model says: {message})"
        )
    if infinite and "infinity" in message:
        return (
            f"{REFUSES_INFINITE}: of {rows.num_rows} rows, {infinite} are infinite; "
            f"leave such rows out in the query (the model says: {message})"
        )
    types = {name: rows.schema.field(name).type for name in features}
    texts = ", ".join(f"'{name}' is {kind}" for name, kind in types.items() if not is_number(kind))
    facts = [f"NULL: {nulls}" if nulls else "", f"not numbers: {texts}" if texts else "", _advice(message)]
    return "; ".join(filter(None, [f"the model refuses the rows: {type(exc).__name__}: {message}", *facts]))


def _advice(message: str) -> str:
    """What to do if a column has another type than a step of the user's own was written for."""
    if ".dt accessor" in message:
        return "if the column was a time in training, set `model: {dtypes: {NAME: timestamp}}`"
    if ".str accessor" in message:
        return "if the column was text in training, cast it in the query"
    return ""


def _first_line(exc: BaseException) -> str:
    try:
        return str(exc).partition("\n")[0]
    except Exception:  # noqa: BLE001 - an exception of the user's own whose text cannot be made
        return "it says nothing"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} in '{name}'" for name, count in counts.items())
