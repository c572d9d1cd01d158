"""Makes a model's baseline from rows that a query returns (`mlops baseline`), and finds it again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from mlops_plugin.config.schema import BASELINE_SUFFIX, ModelConfig
from mlops_plugin.errors import ArtifactError, ContractError
from mlops_plugin.formats.runtime import Runtime
from mlops_plugin.formats.signature.signature import read_content, signature_uri
from mlops_plugin.formats.signature.storing import add_to_signature
from mlops_plugin.masking import masked
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.validation.baseline import (
    Baseline,
    make_baseline,
    read_baseline,
    read_baseline_beside,
    write_baseline,
)
from mlops_plugin.pipeline.validation.contract import BoundContract, Contract
from mlops_plugin.pipeline.validation.output_check import classes_of
from mlops_plugin.pipeline.validation.rejections import Refused
from mlops_plugin.pipeline.validation.screening import accepted
from mlops_plugin.pipeline.validation.signed_model import require_same_answers
from mlops_plugin.workers.isolation import StepModels

MAX_CLASSES = 1000


def baseline_uri(model: ModelConfig) -> str:
    """Where the model's baseline is written: where `input:` says, else in the signature, else in a file."""
    if (path := _path(model)) is not None:
        return path
    if model.model.is_registered:
        raise ContractError(
            f"models.{model.name}.input.baseline: nothing lies beside a model of a registry; write the "
            "path that "
            "the baseline is to have"
        )
    signature = signature_uri(model.model.uri)
    return model.model.uri + BASELINE_SUFFIX if read_content(signature) is None else signature


def _path(model: ModelConfig) -> str | None:
    """The path that the contract names, if it names one."""
    is_named = model.input is not None and isinstance(model.input.baseline, str)
    return model.input.baseline_uri(model.model.uri) if model.input and is_named else None


def find_baseline(model: ModelConfig, artifact_sha256: str) -> Baseline | None:
    """The model's baseline, None if there is none for this very artifact."""
    path = _path(model)
    try:
        baseline = read_baseline_beside(model.model.uri) if path is None else read_baseline(path)
    except (ContractError, ArtifactError):
        return None
    return baseline if baseline.artifact_sha256 == artifact_sha256 else None


def make_from_query(model: ModelConfig, deployment: Deployment, query: str) -> Baseline:
    """Run `query` on the source's connection, look at every row, and write the baseline; returns it.

    Rows that break the columns' own rules of `input:` are left out. Raises `FeatureError` if the query
    lacks a feature, and whatever reading or loading the model raises.
    """
    with contextlib.closing(StepModels(must_be_confined=deployment.requires_confinement)) as models:
        runtime = models.load(model)
        require_same_answers(models.of_version(model), runtime)
        return _made(model, deployment, query, runtime)


def _made(model: ModelConfig, deployment: Deployment, query: str, runtime: Runtime) -> Baseline:
    own = Contract(model.name, model.input.columns if model.input else {})
    source = model.source
    database = deployment.of_dispatch(model).source(model)
    with contextlib.closing(database):
        rows = database.read(query, batch_rows=source.batch_rows)
        bound = own.bind(rows.schema)
        runtime.check(bound.schema_of(rows.schema))
        baseline = baseline_of(runtime, valid_rows(bound, rows), masked(query))
    uri = baseline_uri(model)
    if uri == signature_uri(model.model.uri):
        add_to_signature(uri, asdict(baseline))
    else:
        write_baseline(baseline, uri)
    return baseline


def baseline_of(runtime: Runtime, rows: Iterator[pa.RecordBatch], origin: str) -> Baseline:
    """What these rows look like, and which classes the model may predict."""
    seen = _Classes(runtime)
    baseline = make_baseline(
        runtime.features,
        seen.of(rows),
        artifact_sha256=runtime.artifact_sha256,
        origin=origin,
        classes=None,
    )
    return baseline.with_classes(seen.classes)


def valid_rows(contract: BoundContract, rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows that keep the contract, as it converts them."""
    for batch in rows:
        checked = contract.check(batch)
        refused = [Refused.of_mask(one.column, one.reason, one.rows, None) for one in checked.violations]
        yield checked.rows.take(accepted(refused, batch.num_rows)) if refused else checked.rows


class _Classes:
    """The classes that a model may predict: its own, or those that it answers with."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        first = runtime.outputs.field(0)
        self.classes: list[Any] | None = classes_of(first)
        self._is_asked = self.classes is None and not pa.types.is_floating(first.type)
        self._seen: dict[Any, None] = {}

    def of(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield batch
            if self._is_asked:
                self._see(batch)
        if self._is_asked:
            self.classes = [*self._seen]

    def _see(self, batch: pa.RecordBatch) -> None:
        answers = self._runtime.predict(batch).column(0).unique().drop_null().to_pylist()
        self._seen |= dict.fromkeys(answers)
        if len(self._seen) > MAX_CLASSES:
            self._is_asked, self.classes = False, None
