"""Compositions of scikit-learn's parts answer a dispatch as they answer in the notebook, bit for bit.

Each is fitted on what `pandas.read_sql` gives, and asked about rows of three engines, over each way in, in
batches of 1, 7 and all rows. The same sweep notices rows that a model sees otherwise than in training.

Of the compositions that are drawn, a complete run takes those that bring together kinds of steps, columns and
answers that none before has; `make test-long` takes each.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sklearn
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from threadpoolctl import threadpool_limits

from mlops_plugin.errors import InputUndecided, MlopsError
from mlops_plugin.formats.model_input import InputSpec
from mlops_plugin.formats.scikit import ScikitRuntime
from support import shop_code
from support.asked_once import asked_once, imprint
from support.compositions import Composition, composition
from support.mixed_table import ASKED, MixedTable, mixed_table
from support.random_examples import PROFILE
from support.servers import Server
from support.ways_in import WayIn, spec_of, sqlite_odbc_way, sqlite_way

DRAWN = 570  # about 70 of them are made of parts that do not go together
NEW_PAIRS = 10  # a composition is taken if it brings together as many pairs of kinds that none before has
EXAMPLES = 140  # of those drawn, at least
LONGER = int(os.environ.get("SWEEP_EXAMPLES", "5000"))
SHARE_REFUSED = 0.001
SHARE_UNDECIDED = 0.1
CLOSE = 1e-9  # to the notebook's own memory order, in which linear models may differ in the last bit
SIZES = (1, 7, ASKED)
SMALL_FIRST = 4  # one of so many compositions is asked about small batches first, and the others last
ALONE, ALONE_AGAIN = 2, 6  # one of so many rows is asked about alone, over the first way in and the others
TO_SERVERS = ("mysql", "odbc-mariadb", "postgres", "odbc-postgres")
Answers = list[list[Any]]


class Different(AssertionError):
    """An answer of the product that is not the model's own."""


@pytest.fixture(scope="module")
def tables(mariadb: Server, postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> list[MixedTable]:
    """The same table on each engine, read over all six ways in."""
    folder = Path(tmp_path_factory.mktemp("mixed"))
    found = [mixed_table([sqlite_way(folder), sqlite_odbc_way(folder)], SIZES)]
    for server in (mariadb, postgres):
        database = server.new_database()
        ways = [WayIn(database.engine, spec_of(database), database)]
        odbc = "odbc-mariadb" if database.engine == "mysql" else "odbc-postgres"
        found.append(mixed_table([*ways, WayIn(odbc, spec_of(database, "odbc"), database)], SIZES))
    return found


@dataclass
class Tried:
    """What became of the compositions, over each way in."""

    compositions: int = 0
    drawn: set[str] = field(default_factory=set)  # kinds, also those of what was left out
    pairs: set[tuple[str, str]] = field(default_factory=set)  # of kinds, in one composition
    alone: range = range(ASKED)  # the rows that the next way in is asked about in batches of one
    is_small_first: bool = True  # small batches have the product ask again whether answers are a row's own
    over: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    undecided: int = 0  # batches of which the file does not tell how training read them
    refusals: Counter[str] = field(default_factory=Counter)  # of batches that the model itself answers

    @property
    def kinds(self) -> set[str]:
        return {kind for pair in self.pairs for kind in pair}

    def __str__(self) -> str:
        where = ", ".join(f"{name} {count}" for name, count in self.over.items())
        refused = "; ".join(f"{count} x {said}" for said, count in self.refusals.items())
        return (
            f"{self.compositions} compositions; {where}; {self.batches} batches, "
            f"{self.undecided} undecided; refused: {refused or 'none'}"
        )


@pytest.mark.slow
@pytest.mark.timeout(3600)  # two minutes on an idle machine
def test_a_composition_answers_as_in_the_notebook(tables: list[MixedTable]) -> None:
    tried = sweep(tables, range(DRAWN), new_pairs=NEW_PAIRS)
    print(tried)
    assert tried.compositions >= EXAMPLES
    assert tried.kinds == tried.drawn
    assert all(tried.over[way] == tried.compositions for way in TO_SERVERS), str(tried)
    # SQLite keeps times as texts, and its ODBC driver reads integers and texts only.
    assert tried.over["sqlite"] > 0.5 * EXAMPLES, str(tried)
    assert tried.over["odbc-sqlite"] > 0.3 * EXAMPLES, str(tried)
    assert tried.refusals.total() <= SHARE_REFUSED * tried.batches, str(tried)
    assert tried.undecided <= SHARE_UNDECIDED * tried.batches, str(tried)


@pytest.mark.long
def test_many_more_compositions_answer_as_in_the_notebook(tables: list[MixedTable]) -> None:
    first = Random().randrange(10**9) if PROFILE == "long" else 0
    seeds = range(first, first + _MOST_DRAWN * LONGER)
    print(sweep(tables, seeds, LONGER, is_told=True))


_MOST_DRAWN = 3  # for each that is wanted: the parts of some do not go together


def sweep(
    tables: list[MixedTable], seeds: range, most: int = DRAWN, *, new_pairs: int = 0, is_told: bool = False
) -> Tried:
    """Compare what is drawn of the seeds; `is_told`: print each of them, and ask each about every row alone.

    Else only some rows, others of each composition. `new_pairs`: leave out compositions with fewer of them.
    """
    tried = Tried()
    for seed in seeds:
        if tried.compositions == most:
            break
        drawn = composition(Random(seed), tables[0].frame)
        tried.drawn |= drawn.kinds
        if len(drawn.pairs - tried.pairs) < new_pairs:
            continue
        np.random.seed(0)  # for estimators without a `random_state`
        with quick_and_quiet():
            try:
                fitted = list(fit(drawn, tables))
            except (ValueError, TypeError):
                continue  # parts that do not go together
            try:
                with asked_once():
                    compare_over_all(drawn, fitted, tried, is_told=is_told)
            except Exception as error:
                error.add_note(f"seed {seed}: {drawn}")
                raise
        tried.compositions += 1
        tried.pairs |= drawn.pairs
        if is_told:
            print(seed, drawn)
    return tried


def compare_over_all(
    composition: Composition, fitted: list[tuple[MixedTable, Any]], tried: Tried, *, is_told: bool
) -> None:
    compared: list[Compared] = []
    tried.is_small_first = tried.compositions % SMALL_FIRST == 0
    for table, model in fitted:
        for way, batches in table.batches.items():
            same = Compared.of(model, composition, batches)
            if same is None:
                continue  # its driver refuses some of these columns
            tried.over[way] += 1
            if not any(same.equals(other) for other in compared):
                step = 1 if is_told else ALONE_AGAIN if compared else ALONE
                tried.alone = range(tried.compositions % step, ASKED, step)
                compare(composition, model, table, way, tried)
                compared.append(same)


@contextlib.contextmanager
def quick_and_quiet() -> Iterator[None]:
    """On tables this small, threads and checks of parameters take longer than the models do."""
    quick = sklearn.config_context(skip_parameter_validation=True)
    with warnings.catch_warnings(), threadpool_limits(1), quick:
        warnings.simplefilter("ignore")  # about training on so little
        yield


@dataclass(frozen=True)
class Compared:
    """A model, and the very rows that it was asked about."""

    model: Any
    rows: pa.Table  # in the batches of all sizes, one after the other

    @classmethod
    def of(
        cls, model: Any, composition: Composition, by_size: dict[int, list[pa.RecordBatch]]
    ) -> Self | None:
        """None if the rows lack a feature."""
        batches = [batch for batches in by_size.values() for batch in batches]
        if not set(composition.features) <= set(batches[0].schema.names):
            return None
        return cls(model, pa.Table.from_batches([batch.select(composition.features) for batch in batches]))

    def equals(self, other: Compared) -> bool:
        """Whether nothing can differ: also types, and which rows are in one batch."""
        ours, theirs = self.rows, other.rows
        return (
            self.model is other.model
            and ours.schema.equals(theirs.schema)
            and ours.equals(theirs)
            and [len(part) for part in ours.column(0).chunks]
            == [len(part) for part in theirs.column(0).chunks]
        )


def fit(composition: Composition, tables: list[MixedTable]) -> Iterator[tuple[MixedTable, Any]]:
    """The composition as fitted on each engine's rows; once for those that the notebook cannot tell apart."""
    models: dict[Any, Any] = {}
    for table in tables:
        if composition.reads_moments and not table.has_dates:
            continue
        key = imprint(composition.table(table.frame))
        if key not in models:
            models[key] = composition.fitted(table.frame)
        yield table, models[key]


def compare(
    composition: Composition,
    model: Any,
    table: MixedTable,
    way: str,
    tried: Tried,
    runtime_class: type[ScikitRuntime] = ScikitRuntime,
) -> None:
    """Ask the product over a way in, and the model itself; raises `Different` for any other bit."""
    by_size = table.batches[way]
    given = None if composition.container == "frame" else tuple(composition.features)
    runtime = runtime_class("m", "0" * 64, model, given)
    if tried.alone.step > ALONE:  # over the first way, rows were asked about beside others
        runtime._own = None
    runtime.learn_outputs(by_size[ASKED][0])
    sizes = sorted(by_size, reverse=not tried.is_small_first)
    for size, batches in ((size, by_size[size]) for size in sizes):
        start = 0
        for batch in batches:
            rows = table.frame.iloc[start : start + batch.num_rows]
            start += batch.num_rows
            if size == 1 and start - 1 not in tried.alone:
                continue
            tried.batches += 1
            try:
                found = [column.to_pylist() for column in runtime.predict(batch).columns]
            except InputUndecided:
                tried.undecided += 1
                continue
            except MlopsError as error:
                with contextlib.suppress(Exception):  # that of the model itself, for the same reason
                    answers_of(model, composition.table(rows))
                    tried.refusals[str(error)] += 1
                continue
            expected = expected_answers(composition, model, rows, runtime.spec_for(batch), batch)
            if repr(found) != repr(expected):
                raise Different(f"{way}, batches of {size}: {found} is not {expected}: {composition}")
            if size == ASKED:
                require_close(found, answers_of(model, composition.table(rows)), way, composition)


def expected_answers(
    composition: Composition, model: Any, rows: pd.DataFrame, spec: InputSpec, batch: pa.RecordBatch
) -> Answers:
    """The model's own answers about the notebook's rows, in the slices and the memory order of a dispatch."""
    places = spec.parts(batch)
    slices = [np.arange(len(rows))] if places is None else [part.to_numpy() for part in places]
    answered = [as_documented(model, rows.iloc[one][composition.features], spec) for one in slices]
    order = np.argsort(np.concatenate(slices))
    columns = [[value for part in parts for value in part] for parts in zip(*answered, strict=True)]
    return [[column[place] for place in order] for column in columns]


def as_documented(model: Any, rows: pd.DataFrame, spec: InputSpec) -> Answers:
    try:
        return answers_of(model, laid_out(rows, spec))
    except ValueError:  # it takes no integers there: training had floats
        if not any(column.is_undecided for column in spec.columns):
            raise
        others = (column.otherwise() if column.is_undecided else column for column in spec.columns)
        return answers_of(model, laid_out(rows, replace(spec, columns=tuple(others))))


def laid_out(rows: pd.DataFrame, spec: InputSpec) -> Any:
    """The notebook's rows as docs/models.md says that they lie in memory.

    Their values and types are those of `read_sql`, but for whole numbers where the product documents another
    type: floats where only scikit-learn's own see them, and integers if it makes no difference.
    """
    if spec.container in ("documents", "series"):
        return rows.iloc[:, 0].tolist()
    if spec.container == "matrix":
        return np.ascontiguousarray(rows.to_numpy(dtype=np.float64))
    floats = [column.name for column in spec.columns if column.is_plain_float]
    if len(floats) == len(spec.columns):
        matrix = np.ascontiguousarray(rows.to_numpy(dtype=np.float64))
        return pd.DataFrame(matrix, columns=rows.columns, copy=False)
    plain = {column.name: column.dtype for column in spec.columns if column.is_plain_float or column.splits}
    columns = {
        name: rows[name].astype(plain[name]) if name in plain and rows[name].notna().all() else rows[name]
        for name in rows
    }
    return pd.DataFrame(columns).copy()


def require_close(found: Answers, expected: Answers, way: str, composition: Composition) -> None:
    """The same answers but for rounding: the documented memory order changes nothing else."""
    for ours, theirs in zip(found, expected, strict=True):
        if all(isinstance(value, float) for value in theirs):
            is_same = np.allclose(ours, theirs, rtol=CLOSE, atol=CLOSE, equal_nan=True)
        else:
            is_same = ours == theirs
        if not is_same:
            raise Different(f"{way}: {ours} is not near {theirs}: {composition}")


def answers_of(model: Any, rows: Any) -> Answers:
    """What the model says itself of these rows, column by column."""
    answers = [np.asarray(model.predict(rows))]
    if hasattr(model, "predict_proba"):
        answers.append(np.asarray(model.predict_proba(rows)))
    if model.__sklearn_tags__().estimator_type == "outlier_detector":
        answers.append(np.asarray(model.decision_function(rows)))
    return [column.tolist() for each in answers for column in each.reshape(len(each), -1).T]


class NarrowIntegers(ScikitRuntime):
    """Reads integers in 32 bits."""

    def check(self, rows: pa.Schema) -> None:
        super().check(rows)
        self._specs = [_with_columns(spec, "int64", dtype="int32") for spec in self._specs]


class IntegersAsFloats(ScikitRuntime):
    """Reads integers as floats, as pandas does if a NULL is beside them."""

    def check(self, rows: pa.Schema) -> None:
        super().check(rows)
        self._specs = [_with_columns(spec, "int64", dtype="float64") for spec in self._specs]


class NanForNone(ScikitRuntime):
    """Reads NULL as NaN where training had None."""

    def check(self, rows: pa.Schema) -> None:
        super().check(rows)
        self._specs = [_with_columns(spec, "object", missing="nan") for spec in self._specs]


def _with_columns(spec: InputSpec, of: str, **changes: Any) -> InputSpec:
    columns = [
        replace(column, **changes, is_undecided=False) if column.dtype == of else column
        for column in spec.columns
    ]
    return replace(spec, columns=tuple(columns))


ENCODER = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
SQUARES = make_pipeline(FunctionTransformer(shop_code.squares), LinearRegression())
TEXTS = make_pipeline(FunctionTransformer(shop_code.as_texts), ENCODER, LinearRegression())
FLAGS = make_pipeline(ENCODER, LinearRegression())


@pytest.mark.parametrize(
    ("fault", "model", "features"),
    [
        (NarrowIntegers, SQUARES, ["big", "small"]),
        (IntegersAsFloats, TEXTS, ["small", "whole"]),
        (NanForNone, FLAGS, ["flag_or_null"]),
    ],
)
def test_the_sweep_notices_a_fault(
    tables: list[MixedTable], fault: type[ScikitRuntime], model: Any, features: list[str]
) -> None:
    (table,) = (table for table in tables if table.engine == "postgres")
    composition = Composition(model, features, "frame", table.frame["ratio"].to_numpy())
    fitted = composition.fitted(table.frame)
    tried = Tried()
    with asked_once():
        compare(composition, fitted, table, "postgres", tried)
        assert (tried.undecided, tried.refusals.total()) == (0, 0)
        with pytest.raises(Different):
            compare(composition, fitted, table, "postgres", tried, fault)
