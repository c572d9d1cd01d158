"""Compositions of scikit-learn's parts answer a dispatch as they answer in the notebook, bit for bit.

Each is fitted on what `pandas.read_sql` gives. `SWEEP_EXAMPLES=5000` tries more of them, and prints each.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings

from mlops_plugin.errors import MlopsError
from mlops_plugin.formats.model_input import InputSpec
from mlops_plugin.formats.scikit import ScikitRuntime
from support.compositions import Composition, compositions
from support.mixed_table import ROWS, MixedTable, mixed_table
from support.servers import Server
from support.ways_in import WayIn, spec_of, sqlite_way

EXAMPLES = 170  # on each of three engines
SHARE_REFUSED = 0.03
SHARE_OF_LAST_BITS = 0.02  # linear models whose parts stack their columns in another memory order
SIZES = (1, 7, ROWS)
SOME = {1: 2, 7: 1}  # of many batches, as many
Answers = list[list[Any]]
LONGER = int(os.environ.get("SWEEP_EXAMPLES", "0"))


@pytest.fixture(scope="module", params=["sqlite", "mariadb", "postgres"])
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MixedTable:
    if request.param == "sqlite":
        return mixed_table([sqlite_way(Path(tmp_path_factory.mktemp("mixed")))], SIZES)
    server: Server = request.getfixturevalue(request.param)
    database = server.new_database()
    ways = [WayIn(database.engine, spec_of(database), database)]
    ways.append(WayIn(f"odbc-{request.param}", spec_of(database, "odbc"), database))
    return mixed_table(ways, SIZES)


@pytest.mark.server
@pytest.mark.slow
def test_a_composition_answers_as_in_the_notebook(table: MixedTable) -> None:
    tried: Counter[str] = Counter()

    @settings(
        max_examples=LONGER or EXAMPLES,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(composition=compositions(table))
    def sweep(composition: Composition) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about training on so little
            try:
                model = composition.fitted(table.frame)
            except (ValueError, TypeError):
                reject()  # parts that do not go together
            outcome = compare(composition, model, table)
        tried[outcome] += 1
        if LONGER:
            print(f"{table.engine} {outcome}: {composition}")

    sweep()
    assert tried.total() >= (LONGER or EXAMPLES) * 0.9
    assert tried["refused"] <= SHARE_REFUSED * tried.total(), tried
    assert tried["last bit"] <= SHARE_OF_LAST_BITS * tried.total(), tried
    assert tried["same"] >= 0.9 * tried.total(), tried


def compare(composition: Composition, model: Any, table: MixedTable) -> str:
    """`same`, or how the product's answers are not the model's own.

    `last bit`: numbers that differ by rounding only; `refused`: the product refuses what the model answers;
    `both`: both refuse.
    """
    features = tuple(composition.features)
    outcome = "same"
    for way, by_size in table.batches.items():
        runtime = ScikitRuntime("m", "0" * 64, model, None if composition.container == "frame" else features)
        runtime.learn_outputs(by_size[ROWS][0])
        for size, batches in by_size.items():
            start = 0
            for batch in batches[: SOME.get(size, 1)]:  # a driver may make smaller ones
                rows = composition.table(table.frame.iloc[start : start + batch.num_rows])
                start += batch.num_rows
                expected = answers_of(model, rows)
                try:
                    found = [column.to_pylist() for column in runtime.predict(batch).columns]
                except MlopsError:
                    outcome = "both" if expected is None else "refused"
                    continue
                if expected is not None and is_same(found, expected, model, rows, runtime._specs[0]):
                    continue
                # Writing the model down takes longer than asking it.
                if expected is None or not are_close(found, expected, rtol=1e-13):
                    pytest.fail(f"{way}, batches of {size}: {found} is not {expected}: {composition}")
                outcome = "last bit"
    return outcome


def is_same(found: Answers, expected: Answers, model: Any, rows: Any, spec: InputSpec) -> bool:
    """Whether answers are the model's own, bit for bit.

    NumPy sums in another order if the same numbers lie elsewhere in memory, so linear models may differ in
    the last bit. Then the answers must be those about the same rows in the layout of a dispatch.
    """
    if found == expected:
        return True
    if not isinstance(rows, pd.DataFrame) or not are_close(found, expected):
        return False
    return found == answers_of(model, laid_out(rows, spec))


def laid_out(rows: pd.DataFrame, spec: InputSpec) -> pd.DataFrame:
    """The same rows as a table of their own, with the floats that a dispatch makes of whole numbers."""
    floats = [column.name for column in spec.columns if column.is_plain_float]
    if len(floats) == len(spec.columns):
        matrix = np.ascontiguousarray(rows.to_numpy(dtype=np.float64))
        return pd.DataFrame(matrix, columns=rows.columns, copy=False)
    columns = {name: rows[name].astype("float64") if name in floats else rows[name].copy() for name in rows}
    return pd.DataFrame(columns)


def are_close(found: Answers, expected: Answers, *, rtol: float = 1e-6) -> bool:
    if len(found) != len(expected):
        return False
    for ours, theirs in zip(found, expected, strict=True):
        numbers = [isinstance(value, float) for value in theirs]
        if all(numbers) and not np.allclose(ours, theirs, rtol=rtol, atol=rtol / 1000, equal_nan=True):
            return False
        if not all(numbers) and ours != theirs:
            return False
    return True


def answers_of(model: Any, rows: Any) -> Answers | None:
    """What the model says itself of these rows, column by column; None if it refuses them."""
    try:
        answers = [np.asarray(model.predict(rows))]
        if hasattr(model, "predict_proba"):
            answers.append(np.asarray(model.predict_proba(rows)))
        if model.__sklearn_tags__().estimator_type == "outlier_detector":
            answers.append(np.asarray(model.decision_function(rows)))
    except Exception:  # noqa: BLE001 - whatever it raises is no answer
        return None
    return [column.tolist() for each in answers for column in each.reshape(len(each), -1).T]
