"""`mlops init`: adds a model to the configuration, by its file, a connection and a query."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_plugin.errors import EntryError, UntrustedTypes, printable

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.config.schema.artifact import ClassLabel
    from mlops_plugin.pipeline.deployment import Deployment
    from mlops_plugin.pipeline.proposal import NewModel, OwnLibraries, Proposal


_INTEGER = r"[-+]?(?:0|[1-9][0-9]*)"  # 007 is a text
_NUMBER = r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"


def add_model(path: Path, options: argparse.Namespace) -> None:
    """Ask for what the options leave open, propose an entry and write it; `path` may not exist yet."""
    from mlops_plugin.config.entry_writing import add_entry, load_known, require_name
    from mlops_plugin.config.loader import shown_path
    from mlops_plugin.config.schema import Config
    from mlops_plugin.pipeline.deployment import Deployment

    _require_unicode(options)
    ask = _asker(options)
    known = load_known(path)
    config = known.config if known else Config(models={})
    file = Path(ask("model", "Model file"))
    name = options.name or ask("name", "Name of the model", default=re.split("[.@]", _named_by(file))[0])
    require_name(known, name)
    new = _new_model(ask, options, name, file, path)
    deployment = Deployment.of_airflow(
        config.events, config.staging, requires_confinement=config.serving.require_confinement
    )
    new, proposal = _propose(new, deployment, options)
    print(f"{name}: {len(proposal.features)} features, key {', '.join(proposal.key)}, {proposal.rows:,} rows")
    print("\n".join([f"  {name}:", *(f"    {line}" for line in proposal.lines)]))
    if _may_ask(options) and not _agrees(f"Write this into {shown_path(path)}?"):
        raise EntryError("nothing was written")
    add_entry(path, name, proposal.lines)
    print(f"written to {shown_path(path)}; now: mlops check --connect {name}, then: mlops dispatch {name}")


def _require_unicode(options: argparse.Namespace) -> None:
    for name, given in vars(options).items():
        try:
            str(given).encode()
        except UnicodeEncodeError as error:
            raise EntryError(f"{name}: this is not UTF-8, which a configuration has to be") from error


def _new_model(
    ask: Callable[..., str], options: argparse.Namespace, name: str, file: Path, path: Path
) -> NewModel:
    from mlops_plugin.pipeline.proposal import NewModel, is_registered, relative_uri

    connection = ask("connection", "Airflow connection of the rows")
    query = ask("query", "Query that returns them (one SELECT)")
    return NewModel(
        name=name,
        file=file,
        uri=str(file) if is_registered(file) else relative_uri(file, path.absolute().parent),
        connection=connection,
        query=query,
        sink=options.sink or connection,
        table=options.table or f"{name.replace('.', '_').replace('-', '_')}_predictions",
        key=_columns(options.key),
        features=_columns(options.features),
        classes=labels_of(options.classes),
        truth=options.truth,
        registry=ask("registry", "Airflow connection of the MLflow server") if is_registered(file) else None,
        schedule=options.schedule,
        libraries=_libraries(options, path.absolute().parent),
    )


def _libraries(options: argparse.Namespace, folder: Path) -> OwnLibraries | None:
    """The libraries that the options give the model; `folder` is the configuration's."""
    from mlops_plugin.pipeline.proposal import OwnLibraries, relative_uri

    if options.requirements is None:
        if options.python is not None:
            raise EntryError("--python: only for a model with libraries of its own; give --requirements")
        return None
    python = options.python or "{}.{}".format(*sys.version_info[:2])
    return OwnLibraries(options.requirements, relative_uri(options.requirements, folder), python)


def _named_by(file: Path) -> str:
    """What the model's name is proposed by: a version's model, or the file."""
    return file.parent.name if file.name.isdecimal() else file.name


def _propose(new: NewModel, deployment: Deployment, options: argparse.Namespace) -> tuple[NewModel, Proposal]:
    from mlops_plugin.orchestration.rendering import render
    from mlops_plugin.pipeline.proposal import find_untrusted, propose

    now = datetime.now(UTC)

    def rendered(model: ModelConfig) -> str:
        return render(model.source.query, model, moment=now)

    try:
        return new, propose(new, deployment, rendered, print)
    except UntrustedTypes as error:
        types = find_untrusted(error)
        print(
            "the file holds types that skops does not know to be harmless:",
            *map(printable, types),
            sep="\n  ",
        )
        is_trusted = options.trust or (_may_ask(options) and _agrees("Do you trust them?", default=False))
        if not is_trusted:
            raise EntryError(
                "nothing was written: if you know where the file comes from, trust its types with --trust"
            ) from error
        new = replace(new, trusted=types)
        return new, propose(new, deployment, rendered, print)


def _asker(options: argparse.Namespace) -> Callable[..., str]:
    def ask(option: str, question: str, default: str | None = None) -> str:
        given: str | None = getattr(options, option)
        if given:
            return given
        if not _may_ask(options):
            if default:
                return default
            raise EntryError(f"{question}: missing; give --{option}")
        suffix = f" [{default}]" if default else ""
        answer = _answer(f"{question}{suffix}: ") or default
        if not answer:
            raise EntryError(f"{question}: nothing was answered")
        return answer

    return ask


def _may_ask(options: argparse.Namespace) -> bool:
    return not options.yes and sys.stdin.isatty()


def _answer(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError as error:  # no consent, and no default
        raise EntryError("nothing was written: the input ended before the last question") from error


def _agrees(question: str, *, default: bool = True) -> bool:
    answer = _answer(f"{question} {'[Y/n]' if default else '[y/N]'} ").lower()
    return default if not answer else answer in ("y", "yes")


def labels_of(text: str | None) -> tuple[ClassLabel, ...] | None:
    """Class labels as YAML would read them if all are of one type, else as texts."""
    names = _columns(text)
    if names is None:
        return None
    if {name.lower() for name in names} <= {"true", "false"}:
        return tuple(name.lower() == "true" for name in names)
    for kind, written in ((int, _INTEGER), (float, _NUMBER)):
        if all(re.fullmatch(written, name) for name in names):
            return tuple(kind(name) for name in names)
    return names


def _columns(text: str | None) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in text.split(",")) if text else None
