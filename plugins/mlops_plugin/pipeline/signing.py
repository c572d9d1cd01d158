"""Signs a configured model with rows of a file or a query: `mlops sign`.

A signature from training (`write_signature`) holds the notebook's own answers. One that is written here holds
what the model answers today, on this machine: it guards against every later change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import FeatureError, SignatureError
from mlops_plugin.formats.runtime import load_signed
from mlops_plugin.formats.signature.comparison import verify
from mlops_plugin.formats.signature.signature import Signature, parse_signature, signature_uri
from mlops_plugin.formats.signature.signature_writer import dump_signature, make_signature
from mlops_plugin.formats.signature.storing import store_signature
from mlops_plugin.masking import masked
from mlops_plugin.pipeline.validation.baseline_making import baseline_of, find_baseline, valid_rows
from mlops_plugin.pipeline.validation.contract import Contract

if TYPE_CHECKING:
    import pandas as pd

    from mlops_plugin.formats.model_input import InputSpec
    from mlops_plugin.formats.scikit import ScikitRuntime
    from mlops_plugin.pipeline.deployment import Deployment

MOST_ROWS = 100_000  # that are read; golden rows are chosen among them


@dataclass(frozen=True)
class Signed:
    """A signature that was written, and of how many rows."""

    signature: Signature
    rows: int


def sign_with_query(model: ModelConfig, deployment: Deployment, query: str, *, synthetic: bool) -> Signed:
    """Sign with the first rows that a query returns, as a dispatch reads them.

    Raises `FeatureError` if the query lacks a feature, `SignatureError` if the model cannot be signed, and
    `GoldenRowMismatch` if it does not give the same answers again; then nothing is written.
    """
    runtime = _load(model)
    source = model.source
    own = Contract(model.name, model.input.columns if model.input else {})
    with contextlib.closing(deployment.of_dispatch(model).source(model)) as database:
        rows = database.read(query, batch_rows=source.batch_rows)
        bound = own.bind(rows.schema)
        schema = bound.schema_of(rows.schema)
        runtime.check(schema)
        batches = [*_first(valid_rows(bound, rows), MOST_ROWS)]
    batch = pa.Table.from_batches(batches, schema).combine_chunks().to_batches()
    if not batch:
        raise SignatureError(f"models.{model.name}: the query returns no rows to sign the model with")
    table = _as_in_training(runtime.spec_for(batch[0]), batch[0])
    return _sign(model, runtime, table, _Rows(batch[0], masked(query)), synthetic=synthetic)


def sign_with_file(model: ModelConfig, file: Path, *, synthetic: bool) -> Signed:
    """Sign with the rows of a Parquet, CSV or JSON file, as pandas reads them; otherwise like a query's."""
    runtime = _load(model)
    frame = read_table(file)
    missing = [name for name in runtime.features if name not in frame.columns]
    if missing:
        raise FeatureError(
            f"'{file}' has no column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}"
        )
    frame = frame[list(runtime.features)].iloc[:MOST_ROWS]
    (batch,) = pa.Table.from_pandas(frame, preserve_index=False).combine_chunks().to_batches() or (None,)
    if batch is None:
        raise SignatureError(f"'{file}' has no rows to sign the model with")
    spec = runtime.spec_for(batch)
    container = spec.container
    table: Any = frame
    if any(column.dtype == "category" for column in spec.columns):  # a file has their texts and numbers
        table = _as_in_training(spec, batch)
    elif container == "matrix":
        table = frame.to_numpy()
    elif container in ("documents", "series"):
        table = frame.iloc[:, 0] if container == "series" else frame.iloc[:, 0].tolist()
    return _sign(model, runtime, table, _Rows(batch, str(file)), synthetic=synthetic)


def _load(model: ModelConfig) -> ScikitRuntime:
    """The model by the rules for one without a signature: an earlier signature may be what is wrong."""
    if model.model.environment is not None:
        raise SignatureError(
            f"models.{model.name}: a model with libraries of its own is signed where they are: call "
            "write_signature in its training (docs/models.md)"
        )
    if model.model.is_registered:
        raise SignatureError(
            f"models.{model.name}.model: nothing lies beside a model of a registry, so it has no signature; "
            "download it into a folder and write `uri:` of that to sign it"
        )
    return cast("ScikitRuntime", load_signed(model.model, model.features, None))


@dataclass(frozen=True)
class _Rows:
    """What a model is signed with, and where it is from: a query or a file."""

    batch: pa.RecordBatch
    origin: str


def _sign(model: ModelConfig, runtime: ScikitRuntime, table: Any, rows: _Rows, *, synthetic: bool) -> Signed:
    try:
        content = make_signature(runtime.model, table, names=runtime.features, synthetic=synthetic)
    except (TypeError, ValueError) as error:
        raise SignatureError(f"models.{model.name}: no signature can be written: {error}") from error
    uri = signature_uri(model.model.uri)
    content["artifact_sha256"] = runtime.artifact_sha256
    signature = parse_signature(uri, dump_signature(content))
    again = load_signed(model.model, model.features, signature)
    verify(again, signature, tolerance=model.model.tolerance, each_alone=True)
    baseline = find_baseline(model, runtime.artifact_sha256)
    # It holds extremes and texts of single rows, which made-up rows are there to hide.
    if baseline is None and not synthetic:
        baseline = baseline_of(again, iter([rows.batch]), rows.origin)
    content["baseline"] = None if baseline is None else asdict(baseline)
    store_signature(uri, content)
    return Signed(parse_signature(uri, dump_signature(content)), rows.batch.num_rows)


def _as_in_training(spec: InputSpec, rows: pa.RecordBatch) -> Any:
    """The rows as pandas would have read them all at once: integers with NULLs among them are float64."""
    columns = []
    for column in spec.columns:
        is_split = column.splits and rows.column(column.name).null_count > 0
        becomes = "object" if column.dtype == "bool" else "float64"
        columns.append(replace(column, dtype=becomes) if is_split else column)
    return replace(spec, columns=tuple(columns)).build(rows)


def _first(batches: Iterator[pa.RecordBatch], limit: int) -> Iterator[pa.RecordBatch]:
    left = limit
    for batch in batches:
        yield batch.slice(0, left)
        left -= min(left, batch.num_rows)
        if left == 0:
            return


def read_table(file: Path) -> pd.DataFrame:
    """A Parquet, CSV or JSON file as pandas reads it; raises `SignatureError` if it cannot."""
    import pandas as pd

    readers: dict[str, Any] = {
        ".parquet": pd.read_parquet,
        ".csv": pd.read_csv,
        ".json": lambda path: pd.read_json(path, orient="records"),
        ".jsonl": lambda path: pd.read_json(path, orient="records", lines=True),
    }
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise SignatureError(
            f"'{file}' is not one of {', '.join(readers)}; give rows in one of these formats"
        )
    try:
        return reader(file)
    except FileNotFoundError as error:
        raise SignatureError(f"'{file}' does not exist; name a file with rows of training") from error
    except Exception as error:  # whatever the library says of a file that it cannot read
        raise SignatureError(f"'{file}' cannot be read: {type(error).__name__}: {error}") from error
