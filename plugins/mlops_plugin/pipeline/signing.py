"""Signs a configured model with rows of a file or a query: `mlops sign`.

A signature from training (`write_signature`) holds the notebook's own answers. One that is written here holds
what the model answers today, on this machine: it guards against every later change.
"""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import pyarrow as pa

from mlops_plugin.config.schema import ArtifactConfig, ModelConfig
from mlops_plugin.errors import FeatureError, SignatureError
from mlops_plugin.formats.registry.registered_models import RegisteredModels
from mlops_plugin.formats.runtime import Runtime, load_signed
from mlops_plugin.formats.signature.comparison import verify
from mlops_plugin.formats.signature.signature import Signature, parse_signature
from mlops_plugin.formats.signature.signature_writer import dump_signature
from mlops_plugin.formats.signature.signing import TrainingRows, sign
from mlops_plugin.formats.signature.storing import store_signature
from mlops_plugin.masking import masked
from mlops_plugin.pipeline.validation.baseline_making import baseline_of, find_baseline, valid_rows
from mlops_plugin.pipeline.validation.contract import Contract
from mlops_plugin.workers.process import ModelProcess
from mlops_plugin.workers.process_limits import StepLimits

if TYPE_CHECKING:
    import pandas as pd

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
    source = model.source
    model = RegisteredModels().at_hand(model)
    own = Contract(model.name, model.input.columns if model.input else {})
    with _unsigned(model, must_be_confined=deployment.requires_confinement) as unsigned:
        with contextlib.closing(deployment.of_dispatch(model).source(model)) as database:
            rows = database.read(query, batch_rows=source.batch_rows)
            bound = own.bind(rows.schema)
            schema = bound.schema_of(rows.schema)
            unsigned.runtime.check(schema)
            batches = [*_first(valid_rows(bound, rows), MOST_ROWS)]
        batch = pa.Table.from_batches(batches, schema).combine_chunks().to_batches()
        if not batch:
            raise SignatureError(f"models.{model.name}: the query returns no rows to sign the model with")
        return _sign(model, unsigned, TrainingRows(batch[0]), masked(query), synthetic=synthetic)


def sign_with_file(model: ModelConfig, file: Path, *, must_be_confined: bool, synthetic: bool) -> Signed:
    """Sign with the rows of a Parquet, CSV or JSON file, as pandas reads them; otherwise like a query's.

    `must_be_confined`: refuse a process of the model that the kernel cannot confine in every way.
    """
    model = RegisteredModels().at_hand(model)
    with _unsigned(model, must_be_confined=must_be_confined) as unsigned:
        features = unsigned.runtime.features
        frame = read_table(file)
        missing = [name for name in features if name not in frame.columns]
        if missing:
            raise FeatureError(
                f"'{file}' has no column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}"
            )
        frame = frame[list(features)].iloc[:MOST_ROWS]
        (batch,) = pa.Table.from_pandas(frame, preserve_index=False).combine_chunks().to_batches() or (None,)
        if batch is None:
            raise SignatureError(f"'{file}' has no rows to sign the model with")
        return _sign(model, unsigned, TrainingRows(batch, frame), str(file), synthetic=synthetic)


class _Unsigned(Protocol):
    """A model by the rules for one without a signature: an earlier signature may be what is wrong."""

    @property
    def runtime(self) -> Runtime: ...

    def sign(self, rows: TrainingRows, *, synthetic: bool) -> tuple[bytes, Runtime]:
        """See `formats.signature.signing.sign`."""
        ...


@dataclass(frozen=True)
class _Here:
    """In this process, as `isolation: none` has it."""

    artifact: ArtifactConfig
    runtime: ScikitRuntime

    def sign(self, rows: TrainingRows, *, synthetic: bool) -> tuple[bytes, Runtime]:
        return sign(self.artifact, self.runtime, rows, synthetic=synthetic)


@dataclass(frozen=True)
class _Apart:
    """In the model's own, confined process."""

    runtime: ModelProcess

    def sign(self, rows: TrainingRows, *, synthetic: bool) -> tuple[bytes, Runtime]:
        return self.runtime.sign(rows, synthetic=synthetic), self.runtime


@contextlib.contextmanager
def _unsigned(model: ModelConfig, *, must_be_confined: bool) -> Iterator[_Unsigned]:
    if not model.model.is_isolated:
        yield _Here(model.model, cast("ScikitRuntime", load_signed(model.model, model.features, None)))
        return
    limits = StepLimits.from_now(model, must_be_confined=must_be_confined)
    process = ModelProcess(model, limits, is_unsigned=True)
    try:
        process.load()
        yield _Apart(process)
    finally:
        process.end()


def _sign(
    model: ModelConfig, unsigned: _Unsigned, rows: TrainingRows, origin: str, *, synthetic: bool
) -> Signed:
    """`origin` is the query or the file that the rows are from."""
    try:
        written, again = unsigned.sign(rows, synthetic=synthetic)
    except SignatureError as error:
        raise SignatureError(f"models.{model.name}: {error}") from error
    uri, artifact_sha256 = model.model.signature_uri, unsigned.runtime.artifact_sha256
    signature = parse_signature(uri, written)
    if (signature.golden.origin == "synthetic") is not synthetic:  # it decides who may read the file
        raise SignatureError(f"models.{model.name}: the model's process wrote a signature of other rows")
    verify(again, signature, tolerance=model.model.tolerance, each_alone=True)
    baseline = find_baseline(model, artifact_sha256)
    # It holds extremes and texts of single rows, which made-up rows are there to hide.
    if baseline is None and not synthetic:
        baseline = baseline_of(again, iter([rows.batch]), origin)
    content = json.loads(written, parse_constant=_refuse_constant)
    content["artifact_sha256"] = artifact_sha256
    content["baseline"] = None if baseline is None else asdict(baseline)
    store_signature(uri, content)
    return Signed(parse_signature(uri, dump_signature(content)), rows.batch.num_rows)


def _refuse_constant(name: str) -> None:
    raise SignatureError(f"the model's process wrote a signature with {name}, which is no JSON")


def _first(batches: Iterator[pa.RecordBatch], limit: int) -> Iterator[pa.RecordBatch]:
    left = limit
    for batch in batches:
        yield batch.slice(0, left)
        left -= min(left, batch.num_rows)
        if left == 0:
            return


def _is_endless(file: Path) -> bool:
    """Whether it is there and neither a file nor a folder: reading it may never end, or never begin."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return False  # the reader says why
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


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
    if _is_endless(file):
        raise SignatureError(f"'{file}' is a pipe, a socket or a device; name a regular file")
    try:
        return reader(file)
    except FileNotFoundError as error:
        raise SignatureError(f"'{file}' does not exist; name a file with rows of training") from error
    except Exception as error:  # whatever the library says of a file that it cannot read
        raise SignatureError(f"'{file}' cannot be read: {type(error).__name__}: {error}") from error
