"""Makes the demo: five small models under include/models/ with their signatures, and a source database.

    python include/make_demo.py --sqlite PATH      the source is a SQLite file
    python include/make_demo.py --connection ID    the source is a mysql, postgres or sqlite connection
    python include/make_demo.py --retrain          train again, and print the hashes that config.yaml may pin

Each data set comes with scikit-learn. One half trains the model, and its signature tells of it; the other
half, which the model has never seen, becomes a table named like the model: `id` (its row in the data set,
from 1), `observed_at` (UTC), the features, and `truth`. What exists already is left alone, so running it
again is harmless and quick.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy.types import TypeEngine

# Before numpy is loaded: for models this small, threads cost more than they bring.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

HERE = Path(__file__).resolve().parent
FIRST_OBSERVED = datetime(2026, 1, 1)  # UTC; databases store it without a zone
GOLDEN_ROWS = 20
BETWEEN_CASES = timedelta(minutes=10)
SQLALCHEMY_DRIVERS = {"mysql": "mysql+mysqlconnector", "postgres": "postgresql+psycopg2", "sqlite": "sqlite"}
# MySQL and PostgreSQL have a type for times; SQLite keeps the text, which sorts and compares the same.
UTC_TIME = sa.String(19).with_variant(sa.DateTime(), "mysql", "mariadb", "postgresql")


@dataclass(frozen=True)
class Demo:
    """One model of the demo."""

    name: str  # of the model in config.yaml, and of the table
    file: str  # under include/models/
    load: Callable[[], tuple[pd.DataFrame, Any]]  # features and truth
    estimator: Callable[[], Any]


def load_breast_cancer() -> tuple[pd.DataFrame, Any]:
    from sklearn import datasets

    data = datasets.load_breast_cancer(as_frame=True)
    return data.data, data.target_names[data.target]


def load_wine() -> tuple[pd.DataFrame, Any]:
    from sklearn import datasets

    data = datasets.load_wine(as_frame=True)
    return data.data, data.target_names[data.target]


def load_diabetes() -> tuple[pd.DataFrame, Any]:
    from sklearn import datasets

    data = datasets.load_diabetes(as_frame=True, scaled=False)  # years and kg/m2, which people can read
    return data.data.astype({"sex": "int64"}), data.target.to_numpy()


def load_digits() -> tuple[pd.DataFrame, Any]:
    from sklearn import datasets

    data = datasets.load_digits(as_frame=True)
    return data.data.astype("int64"), data.target.to_numpy()  # 8 x 8 pixels of 0 to 16


def load_iris() -> tuple[pd.DataFrame, Any]:
    from sklearn import datasets

    data = datasets.load_iris(as_frame=True)
    return data.data, data.target_names[data.target]


class NamedClasses:
    """XGBoost's classifier knows classes by their places; `classes:` in config.yaml names them, as here."""

    def __init__(self) -> None:
        from xgboost import XGBClassifier

        self.model = XGBClassifier(n_estimators=20, max_depth=3, n_jobs=1)

    def fit(self, features: pd.DataFrame, labels: Any) -> NamedClasses:
        self.learn_names(labels)
        self.model.fit(features, self.classes_.searchsorted(labels))
        return self

    def learn_names(self, labels: Any) -> None:
        import numpy as np

        self.classes_ = np.unique(labels)

    def predict(self, features: pd.DataFrame) -> Any:
        return self.classes_[self.model.predict(features)]

    def predict_proba(self, features: pd.DataFrame) -> Any:
        return self.model.predict_proba(features)


def boosted_trees() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=60, random_state=0)


def logistic_regression() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


def ridge_regression() -> Any:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge(alpha=10.0))


def neural_network() -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    return make_pipeline(MinMaxScaler(), MLPClassifier((64,), max_iter=200, solver="lbfgs", random_state=0))


DEMOS = (
    Demo("breast_cancer", "breast_cancer.skops", load_breast_cancer, boosted_trees),
    Demo("wine", "wine.skops", load_wine, logistic_regression),
    Demo("diabetes", "diabetes.joblib", load_diabetes, ridge_regression),
    Demo("digits", "digits.skops", load_digits, neural_network),
    Demo("iris", "iris.ubj", load_iris, NamedClasses),
)


def split(demo: Demo) -> tuple[pd.DataFrame, Any, pd.DataFrame, Any]:
    """Features and truth of the half that trains, then of the half that is kept for the source."""
    from sklearn.model_selection import train_test_split

    features, truth = demo.load()
    features = features.rename(columns=column_name)
    classes = None if truth.dtype.kind == "f" else truth
    seen, unseen, known, kept = train_test_split(
        features, truth, test_size=0.5, random_state=0, stratify=classes
    )
    order = unseen.index.argsort()
    return seen, known, unseen.iloc[order], kept[order]


def column_name(name: str) -> str:
    """A name that SQL takes without quotes: 'mean radius' becomes 'mean_radius'."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def train(demo: Demo, models: Path) -> None:
    """Train and save one model; the file appears complete or not at all."""
    seen, known, _, _ = split(demo)
    model = demo.estimator().fit(seen, known)
    models.mkdir(parents=True, exist_ok=True)
    unfinished = models / f".part.{demo.file}"
    if isinstance(model, NamedClasses):
        model.model.save_model(unfinished)
    elif demo.file.endswith(".skops"):
        import skops.io

        skops.io.dump(model, unfinished)
    else:
        import joblib

        joblib.dump(model, unfinished)
    unfinished.replace(models / demo.file)


def load(file: Path, labels: Any) -> Any:
    """The model in a file that this script has written, as it was trained with these labels."""
    if file.suffix == ".ubj":
        named = NamedClasses()
        named.model.load_model(file)
        named.learn_names(labels)
        return named
    if file.suffix == ".skops":
        import skops.io

        return skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    import joblib

    return joblib.load(file)


def describe(demo: Demo, models: Path) -> None:
    """Write the signature beside the model's file: golden rows and the baseline of the training half."""
    import pyarrow as pa

    sys.path.insert(0, str(HERE.parent / "plugins"))  # where Airflow finds the package, too
    from mlops_plugin.formats.signature.signature_writer import write_signature
    from mlops_plugin.formats.signature.storing import add_to_signature
    from mlops_plugin.pipeline.validation.baseline import make_baseline

    seen, known, _, _ = split(demo)
    file = models / demo.file
    baseline = make_baseline(
        list(seen.columns),
        pa.Table.from_pandas(seen, preserve_index=False).to_batches(),
        artifact_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        origin=f"the half of scikit-learn's {demo.name} that it was trained on",
        classes=None if known.dtype.kind == "f" else sorted(set(known.tolist())),
    )
    write_signature(load(file, known), seen, file, rows=GOLDEN_ROWS)
    add_to_signature(str(signature_file(demo, models)), asdict(baseline))
    signature_file(demo, models).chmod(0o644)  # the data are public


def signature_file(demo: Demo, models: Path) -> Path:
    """Where dispatches, the contract and the Showroom look for it."""
    return models / f"{demo.file}.signature.json"


def fill(demo: Demo, source: sa.Engine) -> int:
    """Write the kept half into the source, unless it is there; returns the number of rows written."""
    with source.connect() as connection:
        if sa.inspect(connection).has_table(demo.name):
            some_id = connection.scalar(sa.text(f"SELECT max(id) FROM {demo.name}"))
            if some_id is not None:  # rows come in one transaction: some means all
                return 0
    _, _, unseen, kept = split(demo)
    table = describe_table(demo.name, unseen, kept)
    observed = [(FIRST_OBSERVED + BETWEEN_CASES * number) for number in range(len(unseen))]
    rows = [
        {"id": int(position) + 1, "observed_at": moment.isoformat(" "), "truth": truth, **features}
        for position, moment, truth, features in zip(
            unseen.index, observed, kept.tolist(), unseen.to_dict("records"), strict=True
        )
    ]
    table.create(source, checkfirst=True)
    with source.begin() as connection:
        connection.execute(table.insert(), rows)
    return len(rows)


def describe_table(name: str, features: pd.DataFrame, truth: Any) -> sa.Table:
    types: dict[str, TypeEngine[Any]] = {"i": sa.Integer(), "f": sa.Double(), "U": sa.String(20)}
    columns = [sa.Column(name, types[kind.kind], nullable=False) for name, kind in features.dtypes.items()]
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("observed_at", UTC_TIME, nullable=False),
        *columns,
        sa.Column("truth", types[truth.dtype.kind], nullable=False),
    )


def connection_url(conn_id: str) -> sa.URL:
    """The Airflow connection as an SQLAlchemy URL."""
    sys.path.insert(0, str(HERE.parent / "plugins"))  # where Airflow finds the package, too
    from mlops_plugin.connections import get_connection

    spec = get_connection(conn_id)
    if spec.conn_type not in SQLALCHEMY_DRIVERS:
        sys.exit(
            f"connection '{conn_id}' is of type {spec.conn_type}; the demo needs mysql, postgres or sqlite"
        )
    if spec.conn_type == "sqlite":
        return sa.URL.create("sqlite", database="/".join(filter(None, (spec.host, spec.schema))))
    return sa.URL.create(
        SQLALCHEMY_DRIVERS[spec.conn_type], spec.login, spec.password, spec.host, spec.port, spec.schema
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--sqlite", type=Path, metavar="PATH", help="SQLite file to fill")
    source.add_argument("--connection", metavar="ID", help="Airflow connection of the database to fill")
    parser.add_argument("--models", type=Path, default=HERE / "models", metavar="FOLDER")
    parser.add_argument("--retrain", action="store_true", help="train the models even if their files exist")
    options = parser.parse_args()

    for demo in DEMOS:
        file = options.models / demo.file
        if options.retrain or not file.exists():
            train(demo, options.models)
            print(
                f"{demo.name}: trained, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}  {demo.file}"
            )
        if options.retrain or not signature_file(demo, options.models).exists():
            describe(demo, options.models)
    if options.sqlite:
        options.sqlite.parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(sa.URL.create("sqlite", database=str(options.sqlite)))
    elif options.connection:
        engine = sa.create_engine(connection_url(options.connection))
    else:
        return
    for demo in DEMOS:
        written = fill(demo, engine)
        print(f"{demo.name}: {f'{written} rows written' if written else 'rows are there already'}")
    engine.dispose()


if __name__ == "__main__":
    main()
