"""Puts a configuration together from the documents of its files; `loader` reads them.

Whatever is wrong is noted where it belongs: with a model, with an included file, or with config.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlops_plugin.config.complaints import HIDDEN_KEYS, dotted, expected_mapping, explain, unknown_key
from mlops_plugin.config.document import Document, KeyPath, describe
from mlops_plugin.config.parameter_types import NAME_PATTERN
from mlops_plugin.config.schema import MONITOR_DAG_ID, Config, ModelConfig
from mlops_plugin.config.shared_tables import find_sharing
from mlops_plugin.errors import Problem

_NAME = re.compile(NAME_PATTERN)
_QUERIES = (("source", "query"), ("showroom", "cases"))


@dataclass
class Assembly:
    """What has been read so far."""

    file: str  # config.yaml, as messages show it
    folder: Path  # from which relative paths are found, in included files as well
    problems: list[Problem] = field(default_factory=list)  # of config.yaml as a whole
    faults: list[Problem] = field(default_factory=list)  # of included files as a whole
    broken: dict[str, list[Problem]] = field(default_factory=dict)
    models: dict[str, ModelConfig] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # the first file that has a model of this name
    settings: Config = field(default_factory=Config)  # everything but the models
    _head: Document | None = None  # where the settings stand
    _lines: dict[str, int | None] = field(default_factory=dict)  # of each model in its file
    _sink_lines: dict[str, int | None] = field(default_factory=dict)
    _noted: set[tuple[str, str]] = field(default_factory=set)  # file and path of each problem

    @property
    def names(self) -> set[str]:
        return {*self.models, *self.broken}

    def add(self, file: str, path: KeyPath, line: int | None, message: str) -> None:
        """Note the first problem at a path; one inside a model is that model's, any other the file's."""
        problem = Problem(file, line, dotted(path), message)
        problems = self.problems if file == self.file else self.faults
        if len(path) >= 2 and path[0] == "models":
            problems = self.broken.setdefault(str(path[1]), [])
            self.files.setdefault(str(path[1]), file)
        if (file, problem.path) not in self._noted:
            self._noted.add((file, problem.path))
            problems.append(problem)

    def read(self, document: Document) -> None:
        """Check config.yaml, or a part of it, and keep its models."""
        self._note_flaws(document)
        if not self._is_mapping(document):
            return
        has_include = bool(document.value.get("include"))
        entries = self._read_models_section(document, is_required=not has_include)
        if self._head is None:
            self.read_settings(document)
        for name, entry in entries.items():
            self._read_model(name, entry, document)

    def read_included(self, document: Document) -> None:
        """Check an included file, or a part of it, and keep its models."""
        self._note_flaws(document)
        if not self._is_mapping(document):
            return
        for key in document.value:
            if key != "models":
                message = f"an included file holds only `models:`; move this to {self.file}"
                if key == "include":
                    message = f"an included file includes no other; list all of them in {self.file}"
                self.add(document.file, (key,), document.line((key,)), message)
        entries = self._read_models_section(document, is_required=True)
        for name, entry in entries.items():
            self._read_model(name, entry, document)
        # Its models would not be what their file says, so none of them runs.
        for fault in self.faults:
            if fault.file == document.file:
                self.condemn(fault, entries)

    def add_unreadable(self, file: str, name: str, line: int | None, message: str) -> None:
        """Note an entry that is not YAML."""
        self.add(file, ("models", name), line, message)
        self._lines.setdefault(name, line)

    def condemn(self, fault: Problem, names: Iterable[str]) -> None:
        """Let the fault of a file be that of its models, too, unless another file has the model."""
        for name in names:
            if self.files.setdefault(name, fault.file) == fault.file:
                problems = self.broken.setdefault(name, [])
                if fault not in problems:
                    problems.append(fault)

    def read_settings(self, document: Document) -> Config:
        """Check everything but the models."""
        self._head = document
        try:
            self.settings = Config.model_validate({**document.value, "models": {}})
        except ValidationError as error:
            found = explain(error, Config, document)
            self.problems += [one for one in found if (one.file, one.path) not in self._noted]
            self._noted |= {(one.file, one.path) for one in found}
        return self.settings

    def line_of_setting(self, path: KeyPath) -> int | None:
        return self._head.line(path) if self._head else None

    def check_shared_tables(self) -> None:
        """Refuse models that write one table, unless all of them only append to it."""
        for model, sharing in find_sharing(self.models.values()):
            file = self.files[model.name]
            names = ", ".join(
                other.name if self.files[other.name] == file else f"{other.name} ({self._place(other.name)})"
                for other in sharing
            )
            self.add(
                file,
                ("models", model.name, "sink", "table"),
                self._sink_lines[model.name],
                f"'{model.sink.table}' is also written by {names}, and modes upsert and "
                "replace overwrite the others' rows; give each model its own table, or let "
                "all of them append",
            )

    def _note_flaws(self, document: Document) -> None:
        for flaw in document.flaws:
            self.add(document.file, flaw.path, flaw.line, flaw.message)

    def _is_mapping(self, document: Document) -> bool:
        if document.root is None or document.value is None:
            message = "the file is empty; it starts with 'models:' and a model's name below it"
            self.add(document.file, (), 1, message)
            return False
        if not isinstance(document.value, dict):
            found = describe(document.root)
            message = f"found {found}, expected a mapping that begins with 'models:'"
            self.add(document.file, (), 1, message)
            return False
        return True

    def _read_models_section(self, document: Document, *, is_required: bool) -> dict[str, Any]:
        where = ("models",)
        if "models" not in document.value:
            if is_required:
                self.add(document.file, where, None, "required, but missing: the models, each under its name")
            return {}
        entries = document.value["models"]
        if isinstance(entries, dict):
            return entries
        found, line = describe(document.node(where)), document.line(where)
        message = f"found {found}, expected the models, each under its name; {{}} for none"
        self.add(document.file, where, line, message)
        return {}

    def _read_model(self, name: str, entry: object, document: Document) -> None:
        where = ("models", name)
        line = document.line(where)
        if self._is_claimed(name, line, document):
            return
        for message in name_problems(name):
            self.add(document.file, where, line, message)
        if not isinstance(entry, dict):
            found = describe(document.node(where))
            self.add(document.file, where, line, f"found {found}, {expected_mapping(ModelConfig)}")
            return
        for key in HIDDEN_KEYS[ModelConfig] & entry.keys():
            inner = (*where, key)
            self.add(document.file, inner, document.line(inner), unknown_key(key, ModelConfig))
        defaults = self.settings.defaults
        inherited = {key: getattr(defaults, key) for key in defaults.model_fields_set}
        try:
            model = ModelConfig.model_validate({**inherited, **entry, "name": name})
        except ValidationError as error:
            known = {problem.path for problem in self.broken.get(name, ())} | {dotted((*where, "name"))}
            for problem in explain(error, ModelConfig, document, where, self._head):
                if problem.path not in known:
                    self.broken.setdefault(name, []).append(problem)
                    self._noted.add((problem.file, problem.path))
            return
        self.models[name] = self._located(model, document)
        self._sink_lines[name] = document.line((*where, "sink", "table"))

    def _is_claimed(self, name: str, line: int | None, document: Document) -> bool:
        """Whether the name is taken already; then neither entry is right until a person has decided."""
        where = ("models", name)
        if name not in self._lines:
            self._lines[name] = line
            self.files.setdefault(name, document.file)
            return False
        if self.files[name] == document.file:
            self.add(document.file, where, line, "two models have this name; keep one")
        else:
            message = f"{self._place(name)} has a model of this name, too; keep one, or rename one"
            self.add(document.file, where, line, message)
        return True

    def _located(self, model: ModelConfig, document: Document) -> ModelConfig:
        """The model, which knows where it was read."""
        where = ("models", model.name)
        lines = {f"{section}.{key}": document.line((*where, section, key)) for section, key in _QUERIES}
        first_lines = {
            f"{section}.{key}": document.first_line_of_text((*where, section, key))
            for section, key in _QUERIES
        }
        return model.located_in(self.folder).read_from(document.file, lines, first_lines)

    def _place(self, name: str) -> str:
        line = self._lines.get(name)
        return self.files[name] if line is None else f"{self.files[name]}:{line}"


def name_problems(name: str) -> Iterator[str]:
    """What is wrong with the name of a model."""
    if not _NAME.fullmatch(name):
        yield "a model's name has 1 to 200 of the characters A-Z a-z 0-9 _ . -"
    if name == MONITOR_DAG_ID:
        yield "the Monitor's DAG has this name; give the model another name"
