"""Writes a model's signature: what it was trained on, and some rows with its answers.

Copy this one file next to your notebook. It needs numpy and pandas, and runs on Python 3.9 and later:

    from signature_writer import write_signature
    write_signature(model, X, "churn.joblib")      # writes churn.joblib.signature.json

`X` is what you gave to `fit`: the same container, columns and types. docs/models.md describes the file.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import math
import os
import platform
import sys
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FORMAT = "mlops signature"
VERSION = 1
SUFFIX = ".signature.json"
EXACT, SINGLE = 1e-9, 1e-5  # relative differences that are rounding: of 64 bits, of 32 bits
LONGEST_TEXT = 10_000  # characters; a row with a longer text is no golden row
MOST_CATEGORIES = 100  # of a column in the baseline
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
FEWEST = 5  # a text that fewer rows than these have in common may name a person: no synthetic row has it
_LIBRARIES = ("sklearn", "scipy", "polars", "pyarrow", "lightgbm", "xgboost", "catboost", "category_encoders",
              "feature_engine", "imblearn", "skops", "joblib", "onnxruntime")  # fmt: skip
# Types of pandas that no database column becomes, and what to train on instead.
_UNREADABLE = (
    ("Sparse[", "is sparse", "X['{0}'].sparse.to_dense()"),
    ("period[", "holds periods", "X['{0}'].dt.to_timestamp(), as a query returns them"),
    ("interval[", "holds intervals", "numbers, and cut them inside of the model"),
    ("dictionary<", "has a dictionary", "X['{0}'].astype('category')"),
)
_KINDS = (
    ("boolean", (bool, np.bool_)),
    ("integer", (int, np.integer)),
    ("number", (float, np.floating)),
    ("text", (str, uuid.UUID)),
    ("timestamp", (datetime.datetime, np.datetime64)),
    ("date", (datetime.date,)),
    ("time", (datetime.time,)),
    ("duration", (datetime.timedelta, np.timedelta64)),
    ("decimal", (decimal.Decimal,)),
    ("binary", (bytes, bytearray)),
)


def write_signature(
    model: Any,
    X: Any,  # noqa: N803 - its name everywhere
    path: Any,
    *,
    names: Any = None,
    rows: int = 50,
    synthetic: bool = False,
) -> str:
    """Write the signature of a fitted `model` beside its file `path`; returns the signature's SHA-256.

    X: the training data, as `fit` got it: a DataFrame, a matrix, documents (a list, array or Series of
        texts), or a Polars or Arrow table.
    names: the columns of a matrix, in order, as the query names them.
    rows: how many golden rows to keep, at most.
    synthetic: make golden rows up from each column's distribution, if rows of X may not be kept: they may be
        personal data.

    It also holds the baseline: ranges, quantiles and categories of X, for contracts and the Showroom. The
    file can be read by you and your group only, if it holds rows of X. Raises `ValueError` or `TypeError` if
    there is no signature for such a model or such data.
    """
    file, artifact = _files(path)
    content = make_signature(model, X, names=names, rows=rows, synthetic=synthetic)
    if artifact.exists():
        content["artifact_sha256"] = hashlib.sha256(artifact.read_bytes()).hexdigest()
        # It holds extremes and texts of single rows, which made-up rows are there to hide.
        content["baseline"] = None if synthetic else _baseline(_Table(X, names), content)
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        is_same = before.get("artifact_sha256") == content["artifact_sha256"]
        if is_same and before.get("baseline"):
            content["baseline"] = before["baseline"]
    text = dump_signature(content)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.part")
    unfinished.touch(mode=0o644 if synthetic else 0o640)
    unfinished.write_bytes(text)
    os.replace(unfinished, file)  # noqa: PTH105 - the same in every Python
    return hashlib.sha256(text).hexdigest()


def make_signature(
    model: Any,
    X: Any,  # noqa: N803 - its name everywhere
    *,
    names: Any = None,
    rows: int = 50,
    synthetic: bool = False,
) -> dict[str, Any]:
    """The signature's content, as JSON holds it; see `write_signature`."""
    table = _Table(X, names)
    described = [_describe(column) for column in table.columns]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a library thinks of single rows is of no interest here
        golden = _synthetic(table, rows) if synthetic else table.take(_choose(model, table, described, rows))
        golden, answers = _answered(model, golden)
        outputs = [_output(model, method, found) for method, found in answers["batch"].items()]
        unstable = _unstable(answers, outputs)
    return {
        "format": FORMAT,
        "version": VERSION,
        "made_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "artifact_sha256": None,
        "libraries": _libraries(model),
        "input": {"container": table.container, **table.details, "columns": described},
        "outputs": outputs,
        "golden": {
            "origin": "synthetic" if synthetic else "training",
            "rows": [list(row) for row in zip(*(_cells(column) for column in golden.columns))],
            "answers": {
                method: [[encode_value(value) for value in row] for row in found.tolist()]
                for method, found in answers["batch"].items()
            },
            "alone": answers["alone"] is not None,
            "unstable": unstable,
        },
        "baseline": None,
    }


def dump_signature(content: dict[str, Any]) -> bytes:
    """The content as bytes, a line for each column and row; every value is read back as it is."""
    return (_text(content, 0) + "\n").encode("ascii")


def _text(value: Any, depth: int) -> str:
    if isinstance(value, dict) and value and depth < 3:
        lines = [f"{json.dumps(key)}: {_text(part, depth + 1)}" for key, part in value.items()]
        return "{\n" + ",\n".join(lines) + "}"
    if isinstance(value, list) and value and depth and isinstance(value[0], (list, dict)):
        return "[\n" + ",\n".join(json.dumps(part, allow_nan=False) for part in value) + "]"
    return json.dumps(value, allow_nan=False)


def encode_value(value: Any) -> Any:
    """One value as JSON holds it; what JSON does not know becomes an object with the name of its type."""
    if value is pd.NaT or (isinstance(value, (np.datetime64, np.timedelta64)) and np.isnat(value)):
        return {"missing": "nat"}
    if value is getattr(pd, "NA", None) and value is not None:
        return {"missing": "pd.NA"}
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    elif isinstance(value, np.timedelta64):
        value = pd.Timedelta(value)
    elif isinstance(value, (np.bool_, np.integer, np.floating, np.str_)):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, datetime.datetime):
        zone = None if value.tzinfo is None else str(value.tzinfo)
        name = "timestamp" if isinstance(value, pd.Timestamp) else "datetime"
        return {name: value.isoformat(), "zone": zone}
    if isinstance(value, datetime.timedelta):
        whole = (value.days * 86_400 + value.seconds) * 10**6 + value.microseconds
        return {"duration": whole * 1000 + getattr(value, "nanoseconds", 0)}
    for name, kind in (("date", datetime.date), ("time", datetime.time)):
        if isinstance(value, kind):
            return {name: value.isoformat()}
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return {"uuid" if isinstance(value, uuid.UUID) else "decimal": str(value)}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).hex()}
    raise TypeError(f"a value of type {type(value).__name__} cannot be stored in a signature")


def _files(path: Any) -> tuple[Path, Path]:
    """The signature's file and the model's."""
    given = Path(path)
    if given.name.endswith(SUFFIX):
        return given, given.with_name(given.name[: -len(SUFFIX)])
    return given.with_name(given.name + SUFFIX), given


class _Column:
    """One column: its name, its label if that is no text, its type as in training, its values."""

    def __init__(self, label: Any, dtype: str, values: pd.Series) -> None:
        self.name, self.label, self.dtype, self.values = str(label), label, dtype, values


class _Table:
    """Training data in its own container: columns to look at, and rows to ask the model about."""

    def __init__(self, data: Any, names: Any = None) -> None:
        self.data, self.details = data, {}
        self._names = None if names is None else [str(name) for name in names]
        kind = type(data).__module__.partition(".")[0]
        if isinstance(data, pd.DataFrame):
            if data.columns.nlevels > 1 or not data.columns.is_unique:
                raise ValueError(
                    "columns with several levels or the same name twice have no names in SQL; rename them"
                )
            self.container = "frame"
            self.columns = [
                _Column(data.columns[n], str(data.dtypes.iloc[n]), data.iloc[:, n])
                for n in range(data.shape[1])
            ]
        elif kind == "polars" and hasattr(data, "get_column"):
            self.container = "polars"
            self.columns = [
                _Column(n, str(t), pd.Series(data.get_column(n).to_list(), dtype=object))
                for n, t in zip(data.columns, data.dtypes)
            ]
        elif kind == "pyarrow" and hasattr(data, "schema"):
            self.container = "arrow"
            self.columns = [
                _Column(f.name, str(f.type), pd.Series(data.column(f.name).to_pylist(), dtype=object))
                for f in data.schema
            ]
        elif hasattr(data, "toarray"):
            raise TypeError(
                "a sparse matrix cannot be read from a database; pass the rows before they were made sparse"
            )
        elif isinstance(data, np.ndarray) and data.ndim == 2:
            self.container = "matrix"
            self.details = {"order": "C" if data.flags.c_contiguous else "F"}
            # pandas would make texts of its own of objects, and NaN of None among them.
            values = object if data.dtype == np.dtype(object) else None
            self.columns = [
                _Column(label, str(data.dtype), pd.Series(data[:, n], dtype=values))
                for n, label in enumerate(self._labels(data.shape[1]))
            ]
        else:
            self._read_documents(data)

    def _read_documents(self, data: Any) -> None:
        texts = data if isinstance(data, pd.Series) else pd.Series(list(data), dtype=object)
        if _kind(texts) != "text":
            raise TypeError(
                f"no training data: a {type(data).__name__} of {_kind(texts)}; "
                "give a DataFrame, a matrix or texts"
            )
        holder = (
            "series" if isinstance(data, pd.Series) else "array" if isinstance(data, np.ndarray) else "list"
        )
        self.container, self.details = "documents", {"holder": holder}
        (label,) = self._names or [getattr(data, "name", None) or "text"]
        self.columns = [_Column(label, str(getattr(data, "dtype", "object")), texts)]

    def _labels(self, count: int) -> list[str]:
        if self._names is None:
            raise ValueError(
                f"a matrix has no names for its {count} columns; give them: names=[...], in order"
            )
        if len(self._names) != count:
            raise ValueError(f"names= has {len(self._names)} names, but the matrix has {count} columns")
        return self._names

    def __len__(self) -> int:
        return len(self.columns[0].values) if self.columns else 0

    def take(self, places: Any) -> _Table:
        """Some rows, in the order of `places`, in the same container and types, in memory of their own."""
        places = [int(place) for place in places]
        if self.container == "frame" or isinstance(self.data, pd.Series):
            taken = self.data.iloc[places].copy()
        elif self.container == "arrow":
            taken = self.data.take(places)
        elif isinstance(self.data, (list, tuple)):
            taken = [self.data[place] for place in places]
        else:
            taken = self.data[places]
        if self.details.get("order") == "F":
            taken = np.asfortranarray(taken)
        return self.again(taken)

    def again(self, data: Any) -> _Table:
        """Other rows of the same columns."""
        other = _Table(data, [column.name for column in self.columns])
        other.details = self.details
        return other


def _kind(values: pd.Series) -> str:
    """What a column holds, in words that databases share."""
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _kind(pd.Series(dtype.categories))
    types = pd.api.types
    if str(dtype).startswith(("date32", "date64")):  # of Arrow, which pandas counts among its times
        return "date"
    if dtype != np.dtype(object):
        for kind, test in (
            ("boolean", types.is_bool_dtype),
            ("integer", types.is_integer_dtype),
            ("number", types.is_float_dtype),
            ("timestamp", types.is_datetime64_any_dtype),
            ("duration", types.is_timedelta64_dtype),
        ):
            if test(dtype):
                return kind
    found = {_kind_of(kind) for kind in set(map(type, values[~values.isna()].tolist()))}
    if found == {"integer", "number"}:
        return "number"
    return found.pop() if len(found) == 1 else "mixed" if found else "unknown"


def _kind_of(kind: type) -> str:
    return next((name for name, types in _KINDS if issubclass(kind, types)), "mixed")


def _missing(value: Any) -> str:
    """How a missing value looks."""
    encoded = encode_value(value)
    return "none" if encoded is None else encoded.get("missing", "nan")


def _require_readable(column: _Column) -> None:
    dtype = column.values.dtype
    names = {column.dtype, str(dtype.categories.dtype) if isinstance(dtype, pd.CategoricalDtype) else ""}
    for start, what, instead in _UNREADABLE:
        if any(name.startswith(start) for name in names):
            raise TypeError(
                f"column '{column.name}' {what}, which no column of a database does; "
                f"train on {instead.format(column.name)}"
            )


def _describe(column: _Column) -> dict[str, Any]:
    values = column.values
    _require_readable(column)
    described: dict[str, Any] = {"name": column.name, "dtype": column.dtype, "kind": _kind(values)}
    if described["kind"] == "mixed":
        found = sorted({type(value).__name__ for value in values[~values.isna()].tolist()})
        raise TypeError(
            f"column '{column.name}' holds {', '.join(found)}; a database column holds one kind of value: "
            "numbers, text, true/false, dates, times or bytes; convert it before you train"
        )
    if not isinstance(column.label, str):
        described["label"] = encode_value(column.label)
    if isinstance(values.dtype, pd.CategoricalDtype):
        categories = values.dtype.categories
        described["categories"] = [encode_value(value) for value in categories.tolist()]
        described["categories_dtype"] = str(categories.dtype)
        described["ordered"] = bool(values.dtype.ordered)
    elif column.dtype == "string":
        described["storage"] = getattr(values.dtype, "storage", "python")
    looks = [_missing(value) for value in values[values.isna()].tolist()]
    found = sorted(set(looks), key=lambda look: (-looks.count(look), look))
    described["missing"] = found[0] if found else None  # None: never missing in training
    if found[1:]:
        described["also_missing"] = found[1:]
    return described


def _cells(column: _Column) -> list[Any]:
    try:
        return [encode_value(value) for value in column.values.tolist()]
    except TypeError as error:
        raise TypeError(f"column '{column.name}': {error}") from error


# --- which rows ---


def _choose(model: Any, table: _Table, described: list[dict[str, Any]], limit: int) -> list[int]:
    """Rows that show much: each category and class, missing values, extremes; then typical ones."""
    usable = np.ones(len(table), dtype=bool)
    claims: dict[int, set[Any]] = {}
    for column, facts in zip(table.columns, described):
        usable &= _is_usable(column.values, facts)
    if not usable.any():
        raise ValueError("X has no row that can be stored: it is empty, or its texts are too long")
    for number, column in enumerate(table.columns):
        for what, places in _shows(column.values, usable, limit):
            for place in places:
                claims.setdefault(int(place), set()).add((number, what))
    spread = np.flatnonzero(usable)
    spread = spread[np.unique(np.linspace(0, len(spread) - 1, 2000).astype(int))]
    for place, label in zip(spread, _labels_of(model, table, spread)):
        claims.setdefault(int(place), set()).add(label)
    chosen: list[int] = []
    open_claims = set().union(*claims.values())
    while open_claims and len(chosen) < limit * 4 // 5:
        best = max(claims, key=lambda place: (len(claims[place] & open_claims), -place))
        chosen.append(best)
        open_claims -= claims.pop(best)
    for place in spread[np.unique(np.linspace(0, len(spread) - 1, limit).astype(int))]:
        if len(chosen) < limit and int(place) not in chosen:
            chosen.append(int(place))
    return chosen


def _is_usable(values: pd.Series, facts: dict[str, Any]) -> Any:
    """Which rows may be kept: no endless text, and missing in the one way that is known."""
    usable = np.ones(len(values), dtype=bool)
    if facts["kind"] in ("text", "mixed") and values.dtype == object:
        usable = np.array(
            [not isinstance(v, str) or len(v) <= LONGEST_TEXT for v in values.tolist()], dtype=bool
        )
    if facts.get("also_missing"):
        for place in np.flatnonzero(values.isna().to_numpy()):
            usable[place] &= _missing(values.iloc[place]) == facts["missing"]
    return usable


def _shows(values: pd.Series, usable: Any, limit: int) -> Any:
    """What a column's rows show, each with up to eight rows that do."""
    missing = values.isna().to_numpy()
    yield "missing", np.flatnonzero(missing & usable)[:8]
    present = np.flatnonzero(~missing & usable)
    if not len(present):
        return
    kept = values.iloc[present]
    try:
        codes, distinct = pd.factorize(kept)
    except TypeError:  # values that cannot be hashed
        return
    if len(distinct) <= limit:
        for code in range(len(distinct)):
            yield ("value", code), present[np.flatnonzero(codes == code)[:8]]
        return
    if _kind(values) in ("text", "binary"):
        size = np.array([len(value) if hasattr(value, "__len__") else 0 for value in kept.tolist()])
    else:
        size = kept.rank(method="dense").to_numpy()
    for what, found in (("least", size.min()), ("greatest", size.max())):
        yield what, present[np.flatnonzero(size == found)[:8]]


def _labels_of(model: Any, table: _Table, places: Any) -> list[Any]:
    """What the model answers about many rows, if that is a label of few."""
    try:
        found = np.asarray(model.predict(table.take(places).data))
    except Exception:  # noqa: BLE001 - the model may refuse some rows; those are found later
        return []
    if found.ndim != 1 or len(found) != len(places) or len(set(map(str, found.tolist()))) > 50:
        return []
    return [("answer", str(label)) for label in found.tolist()]


def _synthetic(table: _Table, limit: int) -> _Table:
    """Rows of nobody: each column drawn by itself, from what many rows have in common."""
    random = np.random.default_rng(0)
    drawn = [_draw(column.values, limit, random) for column in table.columns]
    if table.container == "frame":
        frame = pd.DataFrame(dict(enumerate(drawn)))
        frame.columns = table.data.columns
        return table.again(frame)
    if table.container == "matrix":
        data = np.column_stack([values.to_numpy(dtype=table.data.dtype) for values in drawn])
        return table.again(np.asfortranarray(data) if table.details["order"] == "F" else data)
    if table.container == "documents":
        texts = drawn[0].tolist()
        holder = table.details["holder"]
        return table.again(
            drawn[0] if holder == "series" else np.array(texts, dtype=object) if holder == "array" else texts
        )
    raise TypeError(
        f"no synthetic rows for a {table.container} table; leave synthetic= out, or give a DataFrame"
    )


def _draw(values: pd.Series, count: int, random: Any) -> pd.Series:
    missing = values.isna()
    present = values[~missing]
    counts = (
        present.astype(object).map(str).value_counts()
        if _kind(values) in ("mixed", "binary")
        else present.value_counts()
    )
    if len(counts) <= 50 or _kind(values) in ("text", "mixed", "binary", "boolean"):
        common = [value for value, rows in counts.items() if rows >= FEWEST]
        if not common:
            if _kind(values) != "text":
                raise ValueError(
                    f"no value of column '{values.name}' occurs in {FEWEST} rows, so no synthetic values "
                    "can be drawn"
                )
            common = ["text", "a longer text", ""]
        found = [common[n % len(common)] for n in random.permutation(count)]
    else:
        between = np.sort(present.to_numpy())[(np.linspace(0.01, 0.99, 99) * (len(present) - 1)).astype(int)]
        found = list(pd.Series(between).iloc[random.integers(0, 99, count)])
    result = pd.Series(found, dtype=values.dtype)
    if missing.any():
        seen = values[missing].iloc[0]
        holes = random.integers(0, count, max(1, count // 10))
        if values.dtype == object:
            kept = result.tolist()
            for hole in holes:
                kept[hole] = seen
            result = pd.Series(kept, dtype=object)
        else:
            result.iloc[holes] = seen
    return result


# --- what the model answers ---


def _ask(model: Any, table: _Table) -> dict[str, Any]:
    """Method -> answers, a line for each row."""
    methods = ["predict"] + ["predict_proba"] * hasattr(model, "predict_proba")
    if _estimator_type(model) == "outlier_detector" and hasattr(model, "decision_function"):
        methods.append("decision_function")
    places = range(len(table))
    return {method: _lines(getattr(model, method)(table.take(places).data), len(table)) for method in methods}


def _lines(answer: Any, rows: int) -> Any:
    if isinstance(answer, list) and answer and all(np.ndim(each) == 2 for each in answer):
        answer = np.concatenate([np.asarray(each) for each in answer], axis=1)
    answer = np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)
    if answer.ndim == 0 or answer.shape[0] != rows:
        raise ValueError(
            f"the model answers {rows} rows with {answer.shape[0] if answer.ndim else 'one value'}"
        )
    return answer.reshape(rows, -1)


def _answered(model: Any, golden: _Table) -> tuple[_Table, dict[str, Any]]:
    """The golden rows that the model takes, and its answers: together, again, reversed, and row by row."""
    alone, reasons = [], []
    for place in range(len(golden)):
        try:
            alone.append(_ask(model, golden.take([place])))
        except Exception as error:  # noqa: BLE001 - whatever the model raises about a row, it refuses it
            alone.append(None)  # type: ignore[arg-type]
            reasons.append(error)
    taken = [place for place, found in enumerate(alone) if found is not None]
    if reasons and taken:
        golden, alone = golden.take(taken), [alone[place] for place in taken]
    try:
        batch = _ask(model, golden)
    except Exception as error:
        raise ValueError(f"the model refuses the rows: {type(error).__name__}: {error}") from error
    turned = _ask(model, golden.take(range(len(golden))[::-1]))
    return golden, {
        "batch": batch,
        "again": _ask(model, golden),
        "reversed": {method: found[::-1] for method, found in turned.items()},
        "alone": {m: np.concatenate([one[m] for one in alone]) for m in batch} if taken else None,
    }


def _output(model: Any, method: str, found: Any) -> dict[str, Any]:
    """What a method answers with; `label`: one of some, compared exactly."""
    classes = getattr(model, "classes_", None)
    is_float = found.dtype.kind == "f"
    is_label = method == "predict" and (
        not is_float or _estimator_type(model) in ("classifier", "clusterer", "outlier_detector")
    )
    described = {
        "method": method,
        "kind": "label" if is_label else "number",
        "dtype": str(found.dtype),
        "width": found.shape[1],
    }
    if is_float and found.dtype.itemsize < 8:
        described["tolerance"] = SINGLE
    if method == "predict" and classes is not None and is_label:
        lists = classes if isinstance(classes, list) and any(map(np.ndim, classes)) else [classes]
        described["classes"] = [[encode_value(label) for label in np.asarray(one).tolist()] for one in lists]
    return described


def _unstable(answers: dict[str, Any], outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Method -> why its answers are not compared, and in which rows (None: in all)."""
    found: dict[str, Any] = {}
    for output in outputs:
        method = output["method"]
        batch = answers["batch"][method]
        noise = {
            way: _differences(batch, answers[way][method], output["kind"])
            for way in ("again", "reversed", "alone") if answers[way] is not None
        }  # fmt: skip
        if max(each.max() for each in noise.values()) > EXACT and all(
            each.max() <= SINGLE for each in noise.values()
        ):
            output["tolerance"] = SINGLE
        limit = output.get("tolerance", EXACT)
        if noise["again"].max() > limit:
            found[method] = {"why": "another answer each time", "rows": None}
            continue
        rows = np.flatnonzero(np.max(list(noise.values()), axis=0) > limit)
        if len(rows):
            found[method] = {
                "why": "the answer depends on the other rows",
                "rows": [int(row) for row in rows],
            }
    return found


def _differences(one: Any, other: Any, kind: str) -> Any:
    """For each row, the largest relative difference of its answers; labels are equal (0) or not (1)."""
    if kind == "label" or one.dtype == object or other.dtype == object:
        pairs = zip(one.tolist(), other.tolist())
        return np.array([float(list(map(encode_value, a)) != list(map(encode_value, b))) for a, b in pairs])
    one, other = one.astype(float), other.astype(float)
    with np.errstate(all="ignore"):
        typical = np.nan_to_num(np.nanmedian(np.abs(np.where(np.isfinite(one), one, np.nan)), axis=0))
        scale = np.maximum(np.abs(one), typical)
        differ = np.abs(one - other) / np.where(scale == 0, 1, scale)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    return np.where(same, 0, np.where(np.isnan(differ), 1, differ)).max(axis=1)


# --- what the columns look like ---


def _baseline(table: _Table, content: dict[str, Any]) -> dict[str, Any]:
    """The same as `mlops baseline` makes of these rows."""
    labels = content["outputs"][0].get("classes") or [None]
    return {
        "artifact_sha256": content["artifact_sha256"],
        "made_at": content["made_at"],
        "origin": "write_signature",
        "rows": len(table),
        "features": {column.name: _looks(column.values) for column in table.columns},
        "classes": [_classified(label) for label in labels[0]] if labels[0] else None,
        "version": 1,
    }


def _looks(values: pd.Series) -> dict[str, Any]:
    missing = values.isna()
    kind = _kind(values).replace("decimal", "number")
    kind = kind if kind in ("integer", "number", "boolean", "text", "date", "timestamp") else ""
    looks: dict[str, Any] = {
        "type": kind, "rows": len(values), "missing": int(missing.sum()),
        "min": None, "max": None, "quantiles": None, "categories": None,
    }  # fmt: skip
    present = values[~missing]
    if not len(present) or not kind:
        return looks
    if kind in ("text", "boolean"):
        counts = present.astype(object).map(str if kind == "text" else bool).value_counts()
        if len(counts) <= MOST_CATEGORIES:
            looks["categories"] = [[value, int(count)] for value, count in counts.items()]
        return looks
    ends = (min(present.tolist()), max(present.tolist()))
    if kind in ("date", "timestamp"):
        looks["min"], looks["max"] = (end.isoformat() for end in ends)
        return looks
    numbered = [int(end) if kind == "integer" else float(end) for end in ends]
    looks["min"], looks["max"] = (end if math.isfinite(end) else None for end in numbered)
    numbers = present.astype(object).map(float).to_numpy(dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers):
        found = np.quantile(numbers, QUANTILES)
        looks["quantiles"] = {f"{share:g}": float(value) for share, value in zip(QUANTILES, found)}
    return looks


def _classified(label: Any) -> Any:
    return label if isinstance(label, (bool, int, float, str)) else str(label)


def _estimator_type(model: Any) -> Any:
    try:
        return model.__sklearn_tags__().estimator_type
    except Exception:  # noqa: BLE001 - older releases and other libraries
        return getattr(model, "_estimator_type", None)


def _libraries(model: Any) -> dict[str, str]:
    names = {"numpy", "pandas", type(model).__module__.partition(".")[0], *_LIBRARIES}
    versions = {name: getattr(sys.modules.get(name), "__version__", None) for name in sorted(names)}
    return {"python": platform.python_version(), **{n: str(v) for n, v in versions.items() if v is not None}}
