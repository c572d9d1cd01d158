"""What a shop keeps in a module of its own: functions and classes that its models are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin


def as_texts(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype(str)


def squares(frame: pd.DataFrame) -> pd.DataFrame:
    return frame * frame


def products(frame: pd.DataFrame) -> pd.DataFrame:
    first, second = frame.columns[:2]
    return frame.assign(product=frame[first] * frame[second])


def digits(frame: pd.DataFrame) -> pd.DataFrame:
    return text_lengths(as_texts(frame))


def bits(frame: pd.DataFrame) -> pd.DataFrame:
    return frame & 3


def with_noise(frame: pd.DataFrame) -> pd.DataFrame:
    return frame + np.random.default_rng().normal(size=frame.shape)


def text_lengths(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({name: frame[name].str.len().fillna(0) for name in frame.columns})


def parts_of_moments(frame: pd.DataFrame) -> pd.DataFrame:
    parts = {f"{name}_{part}": getattr(frame[name].dt, part) for name in frame for part in ("day", "hour")}
    return pd.DataFrame(parts).fillna(-1)


def differences(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.diff().fillna(0)


def ranks(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rank(pct=True)


def rolling_means(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rolling(2, min_periods=1).mean()


def standardized(frame: pd.DataFrame) -> pd.DataFrame:
    return (frame - frame.mean()) / (frame.std(ddof=0) + 1)


def codes_of_categories(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.apply(lambda column: column.astype("category").cat.codes)


def filled_with_zeros(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.fillna(0)


def filled_with_means(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.fillna(frame.mean())


def filled_forward(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.ffill().fillna(0)


def clipped(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.clip(frame.quantile(0.01), frame.quantile(0.99), axis=1)


def greatest(frame: pd.DataFrame) -> pd.DataFrame:
    return (frame == frame.max()).astype(float)


def repeated(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(repeated=frame.duplicated(keep=False).astype(float))


def counted(frame: pd.DataFrame) -> pd.DataFrame:
    return frame / len(frame)


def sizes_of_groups(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.groupby("y")[["x"]].transform("size").to_frame()


def shares_of_sum(frame: pd.DataFrame) -> pd.DataFrame:
    return frame / frame.sum()


def numbered(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(number=np.arange(len(frame)))


def of_integers_and_floats(frame: pd.DataFrame) -> pd.DataFrame:
    """Takes integers in columns whose names begin with `whole`, and floats in the others."""
    for name, dtype in frame.dtypes.items():
        if dtype != ("int64" if str(name).startswith("whole") else "float64"):
            raise TypeError(f"'{name}' is {dtype}")
    return frame.fillna(0)


def halves_of_one(frame: pd.DataFrame) -> pd.DataFrame:
    """Takes integers in one of two columns, and halves it."""
    (whole,) = frame.select_dtypes("int64")
    return frame.assign(**{whole: frame[whole] // 2}).fillna(0)


def same_texts(frame: pd.DataFrame) -> pd.DataFrame:
    first, second = (frame[name].astype(str) for name in frame.columns[[0, -1]])
    return (first == second).to_frame().astype(float)


class Cleaner(BaseEstimator, TransformerMixin):  # type: ignore[misc]
    """Reads documents, and keeps none of scikit-learn's conventions."""

    def fit(self, *_: Any) -> Cleaner:
        self.fitted_ = True
        return self

    def transform(self, texts: Any) -> list[str]:
        return [text.lower().replace("!", "") for text in texts]


class SeriesCleaner(Cleaner):
    """The same with an accessor of pandas."""

    def transform(self, texts: Any) -> Any:
        return texts.str.lower().str.replace("!", "")


class OneColumn(BaseEstimator, TransformerMixin):  # type: ignore[misc]
    """Takes one column of a DataFrame."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, *_: Any) -> OneColumn:
        self.fitted_ = True
        return self

    def transform(self, table: Any) -> Any:
        return table[self.name]


class CityCodes(BaseEstimator, TransformerMixin):  # type: ignore[misc]
    """Keeps scikit-learn's conventions: feature_names_in_ and n_features_in_."""

    def fit(self, frame: pd.DataFrame, *_: Any) -> CityCodes:
        from sklearn.utils.validation import validate_data

        validate_data(self, frame, skip_check_array=True)
        self.codes_ = {city: code for code, city in enumerate(sorted(set(frame["city"])))}
        return self

    def transform(self, table: pd.DataFrame) -> Any:
        return np.column_stack([table["city"].map(self.codes_), table["x"]])


class Formula:
    """Was written for an array."""

    def predict(self, table: Any) -> Any:
        return table[:, 0] * 2.0 + table[:, 1]


class LastDigit:
    """Loses what it looks for if its numbers are floats."""

    def predict(self, table: Any) -> Any:
        return [float(value % 10) for value in table[:, 0]]


class RowByRow:
    """Iterates what it is given: over a DataFrame, it would find names."""

    def predict(self, table: Any) -> Any:
        return [float(row[0]) for row in table]


class Threshold(ClassifierMixin):  # type: ignore[misc]
    """A classifier that is no `BaseEstimator`."""

    def fit(self, table: Any, y: Any) -> Threshold:
        self.classes_ = np.unique(y)
        self.n_features_in_ = table.shape[1]
        return self

    def predict(self, table: Any) -> Any:
        return self.classes_[(np.asarray(table)[:, 0] > 0).astype(int)]


class Says:
    """Answers each row with what `answers` gives for its first number."""

    n_features_in_ = 1

    def __init__(self, answers: dict[float, Any], *, is_list: bool = False) -> None:
        self.answers, self.is_list = answers, is_list

    def predict(self, table: Any) -> Any:
        found = [self.answers[float(value)] for value in np.asarray(table)[:, 0]]
        if self.is_list:
            return found
        array = np.empty(len(found), dtype=object)
        array[:] = found
        return array


class Limited:
    """Takes what is missing, and refuses a first number above 90, in words that contain `nan` and `na`."""

    n_features_in_ = 2

    def predict(self, table: Any) -> Any:
        if (table[:, 0] > 90).any():
            raise ValueError("mais do que o financeiro permite na coluna a")
        return np.zeros(len(table))


class Raises:
    """Raises, and knows its own error only."""

    n_features_in_ = 1

    def __init__(
        self, error: type[BaseException], at: float | None = None, *, least_rows: int | None = None
    ) -> None:
        """With `least_rows`, it takes as many rows whatever is among them."""
        self.error, self.at, self.least_rows = error, at, least_rows

    def predict(self, table: Any) -> Any:
        is_enough = self.least_rows is not None and len(table) >= self.least_rows
        if not is_enough and (self.at is None or self.at in np.asarray(table)[:, 0]):
            raise self.error("no")
        return np.zeros(len(table))


class Samples:
    """Another answer each time."""

    n_features_in_ = 2

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)

    def predict(self, table: Any) -> Any:
        return self.random.normal(size=len(table))


class TextWrapper:
    """Keeps nothing of the model of texts that it holds."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def predict(self, texts: Any) -> Any:
        return self.inner.predict(texts)


class Panic(BaseException):
    """What a library in Rust raises: no `Exception`."""
