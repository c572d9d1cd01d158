"""scikit-learn without pandas and scipy.stats is the same scikit-learn: what needs them finds them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
_BY_ITSELF = "import contextlib\nimporting = contextlib.nullcontext()\n"
_LEAN = """
from mlops_plugin.formats.importing.sklearn_import import lean_sklearn
importing = lean_sklearn()
"""
# Each line uses one of the names that stand for something else, where scikit-learn uses it.
_WORK = """
import json, sys
with importing:
    import sklearn.covariance, sklearn.feature_selection, sklearn.impute, sklearn.inspection
    import sklearn.isotonic, sklearn.metrics, sklearn.model_selection, sklearn.preprocessing
    from sklearn._loss.link import MultinomialLogit
    from sklearn.linear_model import LogisticRegression, Ridge
loaded = sorted({"pandas", "scipy.stats"} & set(sys.modules))
import numpy as np
from sklearn.experimental import enable_iterative_imputer
from sklearn.utils.fixes import _mode, pd_fillna
rows = np.random.default_rng(5).normal(size=(60, 3))
labels = (rows[:, 0] > 0).astype(int)
uniform = sklearn.preprocessing.QuantileTransformer(n_quantiles=30)
gaps = np.where(rows > 1.5, np.nan, rows)
search = sklearn.model_selection.GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}).fit(rows, labels)
said = [
    MultinomialLogit().link(np.array([[0.2, 0.8], [0.5, 0.5]])).tolist(),
    sklearn.covariance.MinCovDet(random_state=0).fit(rows).covariance_.tolist(),
    sklearn.feature_selection.f_regression(rows, rows[:, 1])[1].tolist(),
    sklearn.impute.IterativeImputer(random_state=0, sample_posterior=True).fit_transform(gaps).tolist(),
    sklearn.inspection.partial_dependence(Ridge().fit(rows, labels), rows, [0])["average"].tolist(),
    sklearn.isotonic.check_increasing(rows[:, 0], rows[:, 1]),
    sklearn.metrics.label_ranking_average_precision_score(rows > 0, rows),
    search.cv_results_["rank_test_score"].tolist(),
    uniform.set_params(output_distribution="normal").fit_transform(rows).tolist(),
    np.asarray(_mode(labels)).tolist(),
]
import pandas
frame = pandas.DataFrame({"a": [1.0, None]})
said.append(pd_fillna(sklearn.utils.fixes.pd, frame)["a"].dtype.name)
print(json.dumps([loaded, said], default=bool))
"""


@pytest.mark.slow
def test_what_scikit_learn_computes_with_them_is_the_same() -> None:
    loaded_by_itself, by_itself = _said(_BY_ITSELF)
    loaded, lean = _said(_LEAN)
    assert (loaded_by_itself, loaded) == (["pandas", "scipy.stats"], [])
    assert len(by_itself) == 11
    assert lean == by_itself


def _said(importing: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", importing + _WORK],
        env={"PYTHONPATH": str(PLUGINS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
