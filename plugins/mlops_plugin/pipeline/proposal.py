"""Proposes the entry of a new model by its file and its query; `mlops init` asks and writes it.

The file is loaded in a process of its own, whatever its format: what it holds is not known yet.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from mlops_plugin.config.complaints import explain_entry
from mlops_plugin.config.format_names import NATIVE_FORMATS
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.config.schema.artifact import REGISTERED, ClassLabel
from mlops_plugin.environments.building import Tell, build
from mlops_plugin.environments.location import Environment
from mlops_plugin.errors import ConfigError, EntryError, UntrustedTypes
from mlops_plugin.formats.artifact import artifact_sha256, format_of, open_regular
from mlops_plugin.formats.mlflow_models.model_files import is_mlflow_model
from mlops_plugin.formats.registry.registered_models import RegisteredModels
from mlops_plugin.formats.scikit_files import untrusted_types
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.reading.query_check import require_usable
from mlops_plugin.pipeline.reading.query_failure import query_errors
from mlops_plugin.pipeline.validation.baseline import Baseline
from mlops_plugin.pipeline.validation.baseline_making import baseline_of
from mlops_plugin.pipeline.validation.rejections import key_texts
from mlops_plugin.workers.process import ModelProcess
from mlops_plugin.workers.process_limits import StepLimits

_ROWS_LOOKED_AT = 100_000
_BATCH_ROWS = 10_000
_MOST_SHOWN = 12  # features in a comment
_MOST_ALLOWED = 20  # values of a text column that a contract lists
_KEY_NAMES = ("id", "key")


@dataclass(frozen=True)
class OwnLibraries:
    """A model's own libraries: the requirements file, as the configuration will name it, and the Python."""

    requirements: Path
    uri: str
    python: str


@dataclass(frozen=True)
class NewModel:
    """What is known of a new model; `key` None: to be found. `uri` as the configuration will have it."""

    name: str
    file: Path
    uri: str
    connection: str
    query: str
    sink: str
    table: str
    key: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    trusted: tuple[str, ...] = ()
    classes: tuple[ClassLabel, ...] | None = None
    truth: str | None = None
    schedule: str | None = None
    registry: str | None = None
    libraries: OwnLibraries | None = None


@dataclass(frozen=True)
class Proposal:
    """An entry as lines of YAML, and what was found on the way."""

    lines: list[str]
    features: tuple[str, ...]
    key: tuple[str, ...]
    rows: int


def propose(
    new: NewModel, deployment: Deployment, render: Callable[[ModelConfig], str], tell: Tell
) -> Proposal:
    """Look at the file and the query's first rows; `render` fills the query's template.

    The environment of the model's own libraries is built if it is not there; `tell` hears of that.

    Raises `UntrustedTypes` for a skops file with types beside `new.trusted`, `FeatureError` if the file does
    not tell its columns or the query lacks some, `EntryError` if no column can be the key.
    """
    fixed = _artifact(new)
    model = RegisteredModels().at_hand(_model(new, fixed))
    own = Environment.of(model)
    if own is not None:
        build(own, tell)
    process = ModelProcess(
        model, StepLimits.from_now(model, must_be_confined=deployment.requires_confinement)
    )
    try:
        process.load()
        query = render(model)
        with contextlib.closing(deployment.source(model)) as database:
            require_usable(model, query, database.engine.name)
            with query_errors(model, query):
                columns = database.describe(query)
            process.check(columns)
            key = _require_key(new, columns.names, process.features)
            _require_column(new.truth, columns.names)
            keyed = _model(replace(new, key=key), fixed)
            with contextlib.closing(deployment.source(keyed)) as rows_database:
                rows = rows_database.read(query, batch_rows=_BATCH_ROWS)
                seen = _KeyWatch(key)
                baseline = baseline_of(process, seen.of(_first(rows)), new.query)
    finally:
        process.end()
    lines = _lines(replace(new, key=key), fixed, baseline, process.features)
    return Proposal(lines, process.features, key, baseline.rows)


def find_untrusted(error: UntrustedTypes) -> tuple[str, ...]:
    """The types that a file holds and nobody has trusted yet."""
    return untrusted_types(error)


def _artifact(new: NewModel) -> dict[str, Any]:
    if new.libraries is None:
        return _file(new)
    environment = {"requirements": str(new.libraries.requirements), "python": new.libraries.python}
    return {**_file(new), "environment": environment}


def _file(new: NewModel) -> dict[str, Any]:
    if new.registry is not None or is_mlflow_model(str(new.file)):
        return _mlflow_artifact(new)
    try:
        with open_regular(str(new.file)) as file:
            start = file.read(1 << 16)
    except OSError as error:
        raise EntryError(f"model file '{new.file}' cannot be read: {error.strerror}") from error
    found = format_of(start)
    artifact: dict[str, Any] = {"format": found, "uri": str(new.file)}
    if found == "skops":
        return {**artifact, "trusted": new.trusted}
    if found in NATIVE_FORMATS:
        return artifact if new.classes is None else {**artifact, "classes": new.classes}
    return {**artifact, "sha256": artifact_sha256(str(new.file))}


def _mlflow_artifact(new: NewModel) -> dict[str, Any]:
    from mlops_plugin.formats.mlflow_models.loading import ReadModel

    artifact: dict[str, Any] = {"format": "mlflow", "uri": str(new.file)}
    if new.registry is not None:
        artifact["connection"] = new.registry
    located = RegisteredModels().at_hand(_model(new, artifact)).model
    read = ReadModel(located.uri)
    if read.format == "skops":
        artifact["trusted"] = new.trusted
    elif read.format in NATIVE_FORMATS and new.classes is not None:
        artifact["classes"] = new.classes
    return {**artifact, "sha256": read.sha256} if read.runs_code else artifact


def _model(new: NewModel, artifact: dict[str, Any]) -> ModelConfig:
    """A model for looking at rows only; raises `ConfigError` for what no entry can hold."""
    entry = {
        "model": artifact,
        "key": new.key or ("id",),
        "features": new.features,
        "source": {"connection": new.connection, "query": new.query},
        "sink": {"connection": new.sink, "table": new.table},
    }
    try:
        return ModelConfig.model_validate({**entry, "name": new.name})
    except ValidationError as error:
        raise ConfigError(explain_entry(error, new.name, entry)) from error


def _require_key(new: NewModel, columns: Sequence[str], features: Sequence[str]) -> tuple[str, ...]:
    """The key that was given or else the likeliest column that is no feature."""
    if new.key is not None:
        for column in new.key:
            _require_column(column, columns)
        return new.key
    others = [name for name in columns if name not in features and name != new.truth]
    named = [name for name in others if name.casefold() in _KEY_NAMES or name.casefold().endswith("_id")]
    if not others:
        raise EntryError(
            f"each column of the query is a feature ({', '.join(columns)}), so none identifies a row; add "
            "one to the query, or name features with --key"
        )
    return ((named or others)[0],)


def _require_column(name: str | None, columns: Sequence[str]) -> None:
    if name is not None and name not in columns:
        raise EntryError(f"the query returns no column '{name}'; it returns {', '.join(columns)}")


def _first(rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    left = _ROWS_LOOKED_AT
    for batch in rows:
        yield batch.slice(0, left)
        left -= batch.num_rows
        if left <= 0:
            return


class _KeyWatch:
    """Refuses rows whose key is missing or there twice."""

    def __init__(self, key: tuple[str, ...]) -> None:
        self._key = key
        self._seen: set[str] = set()

    def of(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        shown = ", ".join(self._key)
        for batch in batches:
            if any(batch.column(name).null_count for name in self._key):
                raise EntryError(f"key {shown}: it is NULL in some rows; choose another one with --key")
            for text in key_texts(batch, self._key).to_pylist():
                if text not in self._seen:
                    self._seen.add(text)
                    continue
                raise EntryError(
                    f"key {shown}: {text!r} is there more than once, so it does not identify a row; choose "
                    "another one with --key"
                )
            yield batch


def _lines(new: NewModel, artifact: dict[str, Any], baseline: Baseline, features: Sequence[str]) -> list[str]:
    model = {**artifact, "uri": new.uri}
    if not model.get("trusted", True):
        del model["trusted"]
    if new.libraries is not None:
        model["environment"] = {**model["environment"], "requirements": new.libraries.uri}
    lines = [f"schedule: {_text(new.schedule)}"] if new.schedule else []
    lines += ["model:", *(f"  {name}: {_value(value)}" for name, value in model.items())]
    lines.append(f"key: {_value(new.key or ())}")
    more = f" and {len(features) - _MOST_SHOWN} more" if len(features) > _MOST_SHOWN else ""
    lines.append(f"# The model reads {_value(tuple(features[:_MOST_SHOWN]))[1:-1]}{more}.")
    if new.features:
        lines.append(f"features: {_value(new.features)}")
    lines += ["source:", f"  connection: {_text(new.connection)}", *_query(new.query)]
    lines += [
        f"# A contract by {baseline.rows:,} rows of the query; rows that break it go to a quarantine table."
    ]
    lines += ["input:", "  columns:"]
    lines += [f"    {_text(name)}: {_rule(found.rule())}" for name, found in baseline.features.items()]
    lines += ["sink:", f"  connection: {_text(new.sink)}", f"  table: {_text(new.table)}", "  create: true"]
    if new.truth:
        lines += ["showroom:", f"  truth: {_text(new.truth)}"]
    return lines


def _rule(rule: dict[str, Any]) -> str:
    """What a column has to be. Its ends are those of some rows only: they are shown, and not required."""
    kept: dict[str, Any] = {name: rule[name] for name in ("type", "nullable") if name in rule}
    allowed = rule.get("allowed", ())
    if rule.get("type") == "text" and 0 < len(allowed) <= _MOST_ALLOWED:
        kept["allowed"] = allowed
    text = _value(kept)
    found = [rule[name] for name in ("min", "max") if name in rule]
    ends = [f"{end:.6g}" if isinstance(end, float) else str(end) for end in found]
    return f"{text}  # {' to '.join(ends)}" if len(ends) == 2 else text


def _query(query: str) -> list[str]:
    return ["  query: |", *(f"    {line}" if line.strip() else "" for line in query.strip().splitlines())]


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_value(part)}" for name, part in value.items()) + "}"
    return json.dumps(value)


def _text(text: str | None) -> str:
    """As YAML reads it back as text: plain if that is certain, else in JSON's quotes, which YAML knows."""
    plain = (text or "").replace("_", "").replace(".", "").replace("/", "")
    is_word = plain.isascii() and plain.isalnum() and plain[:1].isalpha() and (text or "")[:1].isalpha()
    is_other = (text or "").lower() in ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
    return str(text) if is_word and not is_other else json.dumps(text, ensure_ascii=False)


def is_registered(file: Path) -> bool:
    """Whether it is a version in a registry."""
    return str(file).startswith(REGISTERED)


def relative_uri(file: Path, folder: Path) -> str:
    """The path as the configuration in `folder` names it: relative if the file is below."""
    absolute = Path(os.path.abspath(file))  # noqa: PTH100 (without "..", symbolic links stay)
    return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)
