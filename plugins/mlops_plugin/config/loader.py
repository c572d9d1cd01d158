"""Reads config.yaml, and the files that it includes, into a `Config`.

Every problem carries its file and line, and one broken model or included file hides no other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mlops_plugin.config.assembly import Assembly
from mlops_plugin.config.complaints import suggest
from mlops_plugin.config.document import Document, FileMissing, Unreadable, parse, read_text
from mlops_plugin.config.excerpt import Excerpts
from mlops_plugin.config.included_files import find_included, folder_of
from mlops_plugin.config.schema import Config, ModelConfig
from mlops_plugin.config.shared_tables import may_share_table
from mlops_plugin.errors import BrokenModel, ConfigError, Problem, UnknownModel


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration: its valid models, and the problems of the others."""

    path: Path
    config: Config
    broken: Mapping[str, tuple[Problem, ...]]  # model name -> its problems
    # What is wrong with included files as a whole. Their models are in `broken`, if their names can be read.
    faults: tuple[Problem, ...] = ()
    _files: Mapping[str, Path] = field(default_factory=dict)  # of models in included files

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong, each once."""
        of_models = (problem for found in self.broken.values() for problem in found)
        return tuple(dict.fromkeys((*self.faults, *of_models)))

    @property
    def is_complete(self) -> bool:
        """Whether all models are known; else one that is missing may stand in a file that cannot be read."""
        return not self.faults

    def file_of(self, name: str) -> Path:
        """The file that has the model's entry."""
        return self._files.get(name, self.path)

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
        raise UnknownModel([Problem(shown_path(self.path), None, "models", message), *self.faults])


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
    """Read, check and complete a configuration file and those that it includes.

    Raises `ConfigError` with everything that is wrong if config.yaml as a whole cannot be used. What is wrong
    with single models is in `broken`, with included files in `faults`. With `only`, just that model is looked
    at and returned, which is cheap among many: other models' lines are searched for its name and table, but
    not parsed, and a file that cannot be read does not matter.
    """
    main = _read_main(path)
    loaded = _load_one(main, only) if only is not None else None
    return loaded or _load(main, only)


def load_text(path: Path, text: str) -> LoadedConfig:
    """What `load_config` would return if the file at `path` had this text."""
    return _load(_Source(path, text), None)


def load_settings(path: Path) -> Config:
    """A configuration file without its models, which is cheap in a large one; raises `ConfigError`."""
    main = _read_main(path)
    document = main.parse_settings()
    if document is not None and isinstance(document.value, dict):
        assembly = main.assemble()
        settings = assembly.read_settings(document)
        if not assembly.problems:
            return settings
    # If anything is wrong or unusual, reading the whole file gives the best message.
    return _load(main, None).config.model_copy(update={"models": {}})


def shown_path(path: Path) -> str:
    """A path as messages show it: relative to the working directory if it is below it."""
    try:
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 (without "..", symbolic links stay)
        return str(absolute.relative_to(Path.cwd()))
    except ValueError:
        return str(absolute)
    except OSError:  # the working directory is gone
        return str(path)


def read_config_text(path: Path) -> str | None:
    """The text of a configuration file, None if there is none; raises `ConfigError` if it cannot be read."""
    try:
        return read_text(path)
    except FileMissing:
        return None
    except Unreadable as error:
        raise ConfigError([Problem(shown_path(path), error.line, "", str(error))]) from error


@dataclass(frozen=True)
class _Source:
    """The text of a file, and its models' lines."""

    path: Path
    text: str

    @cached_property
    def file(self) -> str:
        return shown_path(self.path)

    @cached_property
    def excerpts(self) -> Excerpts:
        return Excerpts(self.text)

    def assemble(self) -> Assembly:
        return Assembly(self.file, folder_of(self.path))

    def parse_settings(self) -> Document | None:
        """Everything but the models; None if only the whole file can tell."""
        excerpt = self.excerpts.faithful_settings()
        return None if excerpt is None else self._parse_sound(excerpt)

    def parse_model(self, name: str) -> Document | None:
        """Everything but the other models; None if only the whole file can tell."""
        excerpt = self.excerpts.faithful(name)
        return None if excerpt is None else self._parse_sound(excerpt)

    def _parse_sound(self, excerpt: str) -> Document | None:
        try:
            document = parse(excerpt, self.file)
        except Unreadable:
            return None
        return None if document.flaws else document

    def fault(self, error: Unreadable) -> Problem:
        return Problem(self.file, error.line, "", str(error))


def _read_main(path: Path) -> _Source:
    try:
        return _Source(path, read_text(path))
    except Unreadable as error:
        message = str(error)
        if isinstance(error, FileMissing):
            message += "; set [mlops] config_file in airflow.cfg or AIRFLOW__MLOPS__CONFIG_FILE"
        raise ConfigError([Problem(shown_path(path), error.line, "", message)]) from error


def _load(main: _Source, only: str | None) -> LoadedConfig:
    """Read everything; raises `ConfigError` if config.yaml as a whole is invalid."""
    assembly = main.assemble()
    try:
        pieces = _pieces(main, assembly)
    except Unreadable as error:
        raise ConfigError([main.fault(error)]) from error
    for piece in pieces:
        assembly.read(piece)
    if assembly.problems:
        everything = [*assembly.problems, *(one for found in assembly.broken.values() for one in found)]
        raise ConfigError(sorted(everything, key=lambda problem: problem.line or 0))
    files = _read_included(main, assembly)
    assembly.check_shared_tables()
    return _finish(main, assembly, files, only)


def _load_one(main: _Source, name: str) -> LoadedConfig | None:
    """One model read on its own, or None if only all files can tell."""
    settings: Document | None = None
    others: list[_Source] = []
    if main.excerpts.may_include:
        settings = main.parse_settings()
        if settings is None or not isinstance(settings.value, dict):
            return None
        others = _included_texts(main, settings)
    holders = [source for source in (main, *others) if source.excerpts.may_have(name)]
    if len(holders) != 1:
        return None
    (holder,) = holders
    entry = holder.parse_model(name)
    if entry is None:
        return None
    assembly = main.assemble()
    if settings is None or holder is main:
        assembly.read(entry)
    else:
        assembly.read_settings(settings)
        assembly.read_included(entry)
    if assembly.problems or assembly.faults or assembly.names != {name}:
        return None
    model = assembly.models.get(name)
    if model and may_share_table(model, [source.text for source in (main, *others)]):
        return None
    return _finish(main, assembly, {holder.file: holder.path}, name)


def _included_texts(main: _Source, settings: Document) -> list[_Source]:
    """The files that config.yaml includes, as far as they can be read."""
    patterns = main.assemble().read_settings(settings).include
    found: list[_Source] = []
    for path in find_included(main.path, patterns)[0]:
        try:
            found.append(_Source(path, read_text(path)))
        except Unreadable:
            continue  # `_load` would leave it out, too
    return found


def _read_included(main: _Source, assembly: Assembly) -> dict[str, Path]:
    """Read the files that config.yaml includes; returns their paths by their names in messages."""
    patterns = assembly.settings.include
    paths, unusable = find_included(main.path, patterns)
    for one in unusable:
        line = assembly.line_of_setting(("include", one.position))
        assembly.faults.append(Problem(main.file, line, f"include[{one.position}]", one.message))
    unread: list[tuple[Problem, list[str]]] = []
    for path in paths:
        source = _Source(path, "")
        try:
            source = _Source(path, read_text(path))
            for piece in _pieces(source, assembly):
                assembly.read_included(piece)
        except Unreadable as error:
            unread.append((source.fault(error), [block.name for block in source.excerpts.blocks]))
    for fault, names in unread:  # last, because models that another file has are not its own
        assembly.faults.append(fault)
        assembly.condemn(fault, names)
    return {shown_path(path): path for path in paths}


def _pieces(source: _Source, assembly: Assembly) -> Sequence[Document]:
    """The file as one document or, if it is no YAML as a whole, a document of each model that is.

    So only the culprits are broken. Raises `Unreadable` if the fault is not inside of a model.
    """
    try:
        return [parse(source.text, source.file)]
    except Unreadable:
        excerpts = source.excerpts
        if not excerpts.blocks:
            raise
        outside = _parse_piece(excerpts.without_models(), source.file)
        pieces = [(block, _parse_piece(excerpts.with_only(block), source.file)) for block in excerpts.blocks]
        sound = [piece for _, piece in pieces if isinstance(piece, Document)]
        if isinstance(outside, Unreadable) or len(sound) == len(pieces):
            raise  # with every model alone it is YAML, but with all of them it is not
    if source.file == assembly.file:
        assembly.read_settings(outside)
    for block, piece in pieces:
        if isinstance(piece, Unreadable):
            assembly.add_unreadable(source.file, block.name, piece.line, str(piece))
    return sound


def _parse_piece(text: str, file: str) -> Document | Unreadable:
    try:
        return parse(text, file)
    except Unreadable as error:
        return error


def _finish(main: _Source, assembly: Assembly, files: Mapping[str, Path], only: str | None) -> LoadedConfig:
    names = assembly.names if only is None else assembly.names & {only}
    sound = names - assembly.broken.keys()
    models = {name: model for name, model in assembly.models.items() if name in sound}
    broken = {
        name: tuple(sorted(problems, key=_place))
        for name, problems in assembly.broken.items()
        if name in names
    }
    config = assembly.settings.model_copy(update={"models": models})
    origins = {name: files[file] for name, file in assembly.files.items() if file in files and name in names}
    return LoadedConfig(main.path, config, broken, tuple(assembly.faults), origins)


def _place(problem: Problem) -> tuple[str, int]:
    return problem.file, problem.line or 0
