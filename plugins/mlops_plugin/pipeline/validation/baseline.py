"""What a model's features looked like at a known time: a JSON file, made by `mlops baseline`.

The contract takes types, ranges and categories from it, the Showroom the range that it shows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Self

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_plugin.arrow_values import as_doubles
from mlops_plugin.config.schema import BASELINE_SUFFIX
from mlops_plugin.errors import BaselineUnreadable, ContractError
from mlops_plugin.formats.artifact import open_regular
from mlops_plugin.formats.signature.records import Misread, read_record
from mlops_plugin.formats.signature.signature import (
    parse_signature,
    read_bounded,
    read_content,
    signature_uri,
)
from mlops_plugin.formats.signature.whole_files import store_whole
from mlops_plugin.pipeline.validation.column_check import kind_of

VERSION = 1
MAX_CATEGORIES = 100
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_ADVICE = "make it with: mlops baseline MODEL"
_SAMPLE_ROWS = 100_000  # for the quantiles; the least and greatest value are those of all rows


@dataclass(frozen=True)
class FeatureBaseline:
    """One feature. `quantiles`: share as text -> value; `categories`: value and count, commonest first, None
    if it has too many or is a number."""

    type: str  # of the contract: integer, number, boolean, text, date, timestamp; '' if all are missing
    rows: int
    missing: int
    min: Any = None  # dates in ISO 8601
    max: Any = None
    quantiles: dict[str, float] | None = None
    categories: list[tuple[Any, ...]] | None = None

    def __post_init__(self) -> None:
        if any(len(pair) != 2 for pair in self.categories or ()):
            raise ValueError("a category is no pair of a value and its count")
        for end in self._ends().values():
            if self.type in ("date", "timestamp") and not isinstance(end, str):
                raise ValueError(f"{end!r} is no {self.type}")
            if isinstance(end, int) and not _fits_double(end):
                raise ValueError("an end of its range is too large a number")
        self.rule()  # raises for a time that is none

    def rule(self) -> dict[str, Any]:
        """What it asks of a column, in the words of `input.columns`."""
        rules: dict[str, Any] = {"type": self.type} if self.type else {}
        if self.rows and not self.missing:
            rules["nullable"] = False
        if self.type in ("date", "timestamp"):
            read = datetime.fromisoformat if self.type == "timestamp" else date.fromisoformat
            rules |= {key: read(value) for key, value in self._ends().items()}
        else:
            rules |= self._ends()
        if self.categories:
            rules["allowed"] = tuple(value for value, _ in self.categories)
        return rules

    def _ends(self) -> dict[str, Any]:
        return {key: value for key, value in (("min", self.min), ("max", self.max)) if value is not None}


@dataclass(frozen=True)
class Baseline:
    """A whole file. `classes`: what the model may predict, None if that is no class."""

    artifact_sha256: str
    made_at: str  # ISO 8601, UTC
    origin: str  # the query, or other words for where the rows are from
    rows: int
    features: dict[str, FeatureBaseline]
    classes: list[Any] | None = None
    version: int = VERSION

    def with_classes(self, classes: list[Any] | None) -> Self:
        """The same with what is known of the predictions."""
        return replace(self, classes=classes)


def _fits_double(number: int) -> bool:
    try:
        float(number)
    except OverflowError:
        return False
    return True


def read_baseline_beside(artifact_uri: str) -> Baseline:
    """The baseline of a model's file: in its signature, or else in a file of its own."""
    signed = baseline_in_signature(artifact_uri)
    return read_baseline(artifact_uri + BASELINE_SUFFIX) if signed is None else signed


def baseline_in_signature(artifact_uri: str) -> Baseline | None:
    """What the signature beside a model's file has as its baseline, None if it has none."""
    uri = signature_uri(artifact_uri)
    content = read_content(uri)
    baseline = None if content is None else parse_signature(uri, content).baseline
    return None if baseline is None else _parsed(uri, dict(baseline))


def read_baseline(uri: str) -> Baseline:
    """The baseline at a path or fsspec URL; raises `ContractError` if it is missing or no baseline."""
    try:
        with fsspec.open(uri, "rb") if "://" in uri else open_regular(uri) as file:
            content = json.loads(read_bounded(uri, file))
    except FileNotFoundError as error:
        raise BaselineUnreadable(f"baseline '{uri}' does not exist; {_ADVICE}") from error
    except Exception as error:  # every storage has a library with errors of its own
        raise BaselineUnreadable(f"baseline '{uri}' cannot be read: {error}; {_ADVICE}") from error
    return _parsed(uri, content)


def _parsed(uri: str, content: Any) -> Baseline:
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ContractError(f"'{uri}' is not a baseline of version {VERSION}; {_ADVICE}")
    try:
        return read_record(Baseline, content)
    except Misread as error:
        raise ContractError(
            f"baseline '{uri}' is incomplete or damaged: {error.place}: {error}; {_ADVICE}"
        ) from error


def write_baseline(baseline: Baseline, uri: str) -> None:
    """Write it in place of an earlier one, which stays if it cannot be written: that is a `ContractError`."""
    content = json.dumps(asdict(baseline), indent=1, ensure_ascii=False) + "\n"
    try:
        store_whole(uri, content.encode())
    except Exception as error:
        raise ContractError(f"baseline '{uri}' cannot be written: {error}") from error


@dataclass
class _Seen:
    """What the batches so far say of one feature."""

    type: str = ""
    rows: int = 0
    missing: int = 0
    least: Any = None
    greatest: Any = None
    counts: Counter[Any] | None = field(default_factory=Counter)
    sample: list[Any] = field(default_factory=list)

    def see(self, values: pa.Array, chosen: pa.Array) -> None:
        if isinstance(values, pa.DictionaryArray):
            values = values.dictionary_decode()
        kind = kind_of(values.type)
        self.type = self.type if kind == "null" else {"other": ""}.get(kind, kind)
        self.rows += len(values)
        self.missing += values.is_null(nan_is_null=True).true_count
        present = values.filter(pc.invert(values.is_null(nan_is_null=True)))
        if not len(present):
            return
        if kind in ("text", "boolean"):
            self._count(present)
        elif kind in ("integer", "number", "date", "timestamp"):
            ends = pc.min_max(present).as_py()
            self.least = ends["min"] if self.least is None else min(self.least, ends["min"])
            self.greatest = ends["max"] if self.greatest is None else max(self.greatest, ends["max"])
        if kind in ("integer", "number"):
            taken = as_doubles(values.take(chosen)).drop_null()
            self.sample.append(taken.to_numpy(zero_copy_only=False))

    def _count(self, present: pa.Array) -> None:
        if self.counts is None:
            return
        for found in pc.value_counts(present).to_pylist():
            self.counts[found["values"]] += found["counts"]
        if len(self.counts) > MAX_CATEGORIES:
            self.counts = None

    def report(self) -> FeatureBaseline:
        sampled = np.concatenate(self.sample) if self.sample else np.array([])
        sampled = sampled[np.isfinite(sampled)]
        quantiles = None
        if len(sampled):
            values = np.quantile(sampled, QUANTILES)
            quantiles = {f"{share:g}": float(value) for share, value in zip(QUANTILES, values, strict=True)}
        categories = None
        if self.counts:
            categories = [*self.counts.most_common()]
        least, greatest = (_plain(value) for value in (self.least, self.greatest))
        return FeatureBaseline(self.type, self.rows, self.missing, least, greatest, quantiles, categories)


def make_baseline(
    features: Iterable[str],
    batches: Iterable[pa.RecordBatch],
    *,
    artifact_sha256: str,
    origin: str,
    classes: list[Any] | None,
) -> Baseline:
    """Look at rows once; memory does not grow with their number. Quantiles are of every n-th row at most."""
    seen = {name: _Seen() for name in features}
    rows, every = 0, 1
    for batch in batches:
        chosen = pa.array(np.arange(-rows % every, batch.num_rows, every))
        for name, one in seen.items():
            one.see(batch.column(name), chosen)
        rows += batch.num_rows
        while rows // every > _SAMPLE_ROWS:
            every *= 2
            for one in seen.values():
                if one.sample:
                    one.sample = [np.concatenate(one.sample)[::2]]
    return Baseline(
        artifact_sha256=artifact_sha256,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        origin=origin,
        rows=rows,
        features={name: one.report() for name, one in seen.items()},
        classes=classes,
    )


def _plain(value: Any) -> Any:
    """A value as JSON holds it; a range with an infinite end has none."""
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, int):
        return value
    number = float(value)
    return number if np.isfinite(number) else None
