"""Reads config.yaml into a `Config`; every problem carries its line, and one broken model hides no other."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlops_plugin.config.complaints import (
    HIDDEN_KEYS,
    dotted,
    expected_mapping,
    explain,
    suggest,
    unknown_key,
)
from mlops_plugin.config.document import Document, KeyPath, Unreadable, describe, parse, read_text
from mlops_plugin.config.excerpt import Excerpts
from mlops_plugin.config.parameter_types import NAME_PATTERN
from mlops_plugin.config.schema import MONITOR_DAG_ID, Config, ModelConfig
from mlops_plugin.errors import BrokenModel, ConfigError, Problem, UnknownModel

_NAME = re.compile(NAME_PATTERN)
_QUERIES = (("source", "query"), ("showroom", "cases"))


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration file: its valid models, and the problems of the others."""

    path: Path
    config: Config
    broken: Mapping[str, tuple[Problem, ...]]  # model name -> its problems

    def model(self, name: str) -> ModelConfig:
        """The model of that name; raises `ConfigError` if it is broken, `UnknownModel` if there is none."""
        if name in self.config.models:
            return self.config.models[name]
        if name in self.broken:
            raise BrokenModel(self.broken[name])
        names = [*self.config.models, *self.broken]
        near = suggest(name, names)
        there = "There are" if near else "there are"
        known = f"{there} {', '.join(names)}" if names else f"{there} no models in the file"
        message = f"there is no model '{name}'; {near}{known}"
        raise UnknownModel([Problem(shown_path(self.path), None, "models", message)])


def find_config_file() -> Path:
    """Where config.yaml is: `[mlops] config_file`, or else `include/` next to the DAGs folder."""
    configured = os.environ.get("AIRFLOW__MLOPS__CONFIG_FILE")
    if not configured:
        from airflow.sdk.configuration import conf

        configured = conf.get("mlops", "config_file", fallback=None)
        if not configured:
            return Path(conf.get("core", "dags_folder")).parent / "include" / "config.yaml"
    return Path(configured).expanduser()


def load_config(path: Path, *, only: str | None = None) -> LoadedConfig:
    """Read, check and complete a configuration file.

    Raises `ConfigError` with everything that is wrong if the file as a whole cannot be used. What is
    wrong with single models is in `broken`. With `only`, just that model is looked at and returned, which is
    cheap in a large file.
    """
    file = shown_path(path)
    try:
        text = read_text(path)
    except Unreadable as error:
        raise ConfigError([Problem(file, error.line, "", str(error))]) from error
    excerpts = Excerpts(text)
    if only is not None and (loading := _read_excerpt(excerpts, only, path)):
        return loading.finish()
    loading = _Loading(path)
    try:
        loading.read(parse(text))
    except Unreadable as error:
        loading = _read_piecewise(excerpts, error, path)
    loading.check_shared_tables()
    return loading.finish(only)


def load_settings(path: Path) -> Config:
    """A configuration file without its models, which is cheap in a large one; raises `ConfigError`."""
    try:
        excerpt = Excerpts(read_text(path)).faithful_settings()
        document = parse(excerpt) if excerpt is not None else None
    except Unreadable:
        document = None
    if document is not None and not document.flaws and isinstance(document.value, dict):
        loading = _Loading(path)
        settings = loading.read_settings(document)
        if not loading.problems:
            return settings
    # If anything is wrong or unusual, reading the whole file gives the best message.
    return load_config(path).config.model_copy(update={"models": {}})


def shown_path(path: Path) -> str:
    """A path as messages show it: relative to the working directory if it is below it."""
    try:
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 (without "..", symbolic links stay)
        return str(absolute.relative_to(Path.cwd()))
    except ValueError:
        return str(absolute)
    except OSError:  # the working directory is gone
        return str(path)


def _read_excerpt(excerpts: Excerpts, name: str, path: Path) -> _Loading | None:
    """One model read on its own, or None if only the whole file can tell."""
    excerpt = excerpts.faithful(name)
    if excerpt is None:
        return None
    loading = _Loading(path)
    try:
        loading.read(parse(excerpt))
    except Unreadable:
        return None
    model = loading.models.get(name)
    if loading.problems or loading.names != {name}:
        return None
    if model and _may_share_table(model, excerpts.text):
        return None
    return loading


def _may_share_table(model: ModelConfig, text: str) -> bool:
    """Whether another model, by the look of the text, could write the same table."""
    name = re.escape(_table_parts(model)[1])
    return len(re.findall(rf"table[\"']?\s*:[^\n]*\b{name}\b", text, re.IGNORECASE)) > 1


def _table_parts(model: ModelConfig) -> tuple[str, str]:
    """Schema (empty if none is named) and table, without case and quotes.

    Without case, because the engines disagree whether it matters, and overwriting is not undone.
    """
    schema, _, table = model.sink.table.replace('"', "").casefold().rpartition(".")
    return schema, table


def _share_a_table(one: ModelConfig, other: ModelConfig) -> bool:
    (schema, table), (other_schema, other_table) = _table_parts(one), _table_parts(other)
    is_same_schema = schema == other_schema or not schema or not other_schema
    return one.sink.connection == other.sink.connection and table == other_table and is_same_schema


def _read_piecewise(excerpts: Excerpts, error: Unreadable, path: Path) -> _Loading:
    """Read each model of a file that is not YAML on its own, so that only the culprits are broken."""
    failure = ConfigError([Problem(shown_path(path), error.line, "", str(error))])
    if not excerpts.blocks:
        raise failure from error
    try:
        parse(excerpts.without_models())
    except Unreadable:
        raise failure from error
    loading = _Loading(path)
    for block in excerpts.blocks:
        try:
            loading.read(parse(excerpts.with_only(block)))
        except Unreadable as flaw:
            loading.add(("models", block.name), flaw.line, str(flaw))
    if not loading.broken:  # every model alone is YAML, but together they are not
        raise failure from error
    return loading


@dataclass
class _Loading:
    """What has been read so far."""

    path: Path
    problems: list[Problem] = field(default_factory=list)  # of the file as a whole
    broken: dict[str, list[Problem]] = field(default_factory=dict)
    models: dict[str, ModelConfig] = field(default_factory=dict)
    head: Config | None = None
    _sink_lines: dict[str, int | None] = field(default_factory=dict)
    _paths: set[str] = field(default_factory=set)  # that have a problem

    def __post_init__(self) -> None:
        self.file = shown_path(self.path)
        self.folder = Path(os.path.normpath(self.path.absolute().parent))

    @property
    def names(self) -> set[str]:
        return {*self.models, *self.broken}

    def add(self, path: KeyPath, line: int | None, message: str) -> None:
        """Note the first problem at a path; one inside a model is that model's, any other the file's."""
        problem = Problem(self.file, line, dotted(path), message)
        problems = self.problems
        if len(path) >= 2 and path[0] == "models":
            problems = self.broken.setdefault(str(path[1]), [])
        if problem.path not in self._paths:
            self._paths.add(problem.path)
            problems.append(problem)

    def read(self, document: Document) -> None:
        """Check a document and keep its models."""
        for flaw in document.flaws:
            self.add(flaw.path, flaw.line, flaw.message)
        if document.root is None or document.value is None:
            self.add((), 1, "the file is empty; it starts with 'models:' and a model's name below it")
            return
        if not isinstance(document.value, dict):
            found = describe(document.root)
            self.add((), 1, f"found {found}, expected a mapping that begins with 'models:'")
            return
        entries = self._read_models_section(document)
        self.head = self.head or self.read_settings(document)
        for name, entry in entries.items():
            self._read_model(name, entry, document)

    def _read_models_section(self, document: Document) -> dict[str, Any]:
        if "models" not in document.value:
            self.add(("models",), None, "required, but missing: the models, each under its name")
            return {}
        entries = document.value["models"]
        if isinstance(entries, dict):
            return entries
        found, line = describe(document.node(("models",))), document.line(("models",))
        self.add(("models",), line, f"found {found}, expected the models, each under its name; {{}} for none")
        return {}

    def read_settings(self, document: Document) -> Config:
        """Check everything but the models."""
        try:
            return Config.model_validate({**document.value, "models": {}})
        except ValidationError as error:
            found = explain(error, Config, document, self.file)
            self.problems += [problem for problem in found if problem.path not in self._paths]
            self._paths |= {problem.path for problem in found}
            return Config(models={})

    def _read_model(self, name: str, entry: object, document: Document) -> None:
        where = ("models", name)
        line = document.line(where)
        if name in self.models:
            self.add(where, line, "two models have this name; keep one")
        if not _NAME.fullmatch(name):
            self.add(where, line, "a model's name has 1 to 200 of the characters A-Z a-z 0-9 _ . -")
        if name == MONITOR_DAG_ID:
            self.add(where, line, "the Monitor's DAG has this name; give the model another name")
        if not isinstance(entry, dict):
            self.add(where, line, f"found {describe(document.node(where))}, {expected_mapping(ModelConfig)}")
            return
        for key in HIDDEN_KEYS[ModelConfig] & entry.keys():
            self.add((*where, key), document.line((*where, key)), unknown_key(key, ModelConfig))
        defaults = self.head.defaults if self.head else None
        inherited = {key: getattr(defaults, key) for key in defaults.model_fields_set} if defaults else {}
        try:
            model = ModelConfig.model_validate({**inherited, **entry, "name": name})
        except ValidationError as error:
            known = {problem.path for problem in self.broken.get(name, ())} | {dotted((*where, "name"))}
            for problem in explain(error, ModelConfig, document, self.file, where):
                if problem.path not in known:
                    self.broken.setdefault(name, []).append(problem)
                    self._paths.add(problem.path)
            return
        lines = {f"{section}.{key}": document.line((*where, section, key)) for section, key in _QUERIES}
        first_lines = {
            f"{section}.{key}": document.first_line_of_text((*where, section, key))
            for section, key in _QUERIES
        }
        self.models[name] = model.located_in(self.folder).read_from(self.file, lines, first_lines)
        self._sink_lines[name] = document.line((*where, "sink", "table"))

    def check_shared_tables(self) -> None:
        """Refuse models that write one table, unless all of them only append to it."""
        by_name: dict[str, list[ModelConfig]] = {}
        for model in self.models.values():
            by_name.setdefault(_table_parts(model)[1], []).append(model)
        for namesakes in by_name.values():
            for model in namesakes:
                sharing = [
                    other for other in namesakes if other is not model and _share_a_table(model, other)
                ]
                modes = {other.sink.mode for other in (model, *sharing)}
                if sharing and modes != {"append"}:
                    names = ", ".join(other.name for other in sharing)
                    self.add(
                        ("models", model.name, "sink", "table"),
                        self._sink_lines[model.name],
                        f"'{model.sink.table}' is also written by {names}, and modes upsert and "
                        "replace overwrite the others' rows; give each model its own table, or let "
                        "all of them append",
                    )

    def finish(self, only: str | None = None) -> LoadedConfig:
        """What was read, or `ConfigError` if the file as a whole is invalid."""
        if self.problems:
            everything = [*self.problems, *_flatten(self.broken.values())]
            raise ConfigError(sorted(everything, key=lambda problem: problem.line or 0))
        names = self.names if only is None else self.names & {only}
        models = {name: model for name, model in self.models.items() if name in names - self.broken.keys()}
        broken = {
            name: tuple(sorted(problems, key=lambda problem: problem.line or 0))
            for name, problems in self.broken.items()
            if name in names
        }
        head = self.head or Config(models={})
        return LoadedConfig(self.path, head.model_copy(update={"models": models}), broken)


def _flatten(groups: Iterable[list[Problem]]) -> list[Problem]:
    return [problem for group in groups for problem in group]
