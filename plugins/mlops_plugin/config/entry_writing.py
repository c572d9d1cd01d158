"""Adds the entry of a new model to a configuration file; `mlops init` calls it.

The text is added where `models:` ends, so comments and everything else stay as they are. The whole new text
is read, with the files that it includes, before it takes the place of the old one, in one step.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlops_plugin.config.assembly import name_problems
from mlops_plugin.config.excerpt import Excerpts
from mlops_plugin.config.loader import LoadedConfig, load_config, load_text, read_config_text, shown_path
from mlops_plugin.errors import ConfigError, EntryError

_INDENT = "  "
_EMPTY_MODELS = re.compile(r"^models:[ \t]*(?:\{\}|null|~)?[ \t]*(#.*)?\r?$", re.MULTILINE)
_MODELS_KEY = re.compile(r"""^["']?models["']?[ \t]*:""", re.MULTILINE)
_NEW_FILE = "# Every parameter is described in docs/configuration.md; check with: mlops check\n"
_FILE_MODE = 0o644


def add_entry(path: Path, name: str, lines: list[str]) -> None:
    """Write the entry's `lines` (below its name, without indentation) into the file, which may not exist yet.

    Raises `EntryError`, and leaves the file as it is, if the name is taken, the file cannot take the entry,
    or another model would no longer be what it was.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    before = read_config_text(path)
    known = load_known(path)
    require_name(known, name)
    text = _with_entry(before or _NEW_FILE, name, lines, path)
    _require_same(path, text, known, name)
    try:
        with _written_beside(path, text) as beside:
            if read_config_text(path) != before:
                changed = f"{shown_path(path)} was changed meanwhile"
                raise EntryError(f"{changed}; nothing was written, start again")
            beside.replace(path)
    except OSError as error:
        raise EntryError(f"{shown_path(path)} cannot be written: {error.strerror}") from error


def load_known(path: Path) -> LoadedConfig | None:
    """The configuration; None for a file that is not there or has no models yet, which cannot be loaded.

    Raises `ConfigError` for one that is not usable.
    """
    text = read_config_text(path)
    if text is None:
        return None
    excerpts = Excerpts(text)
    has_none = not _MODELS_KEY.search(text) or (_EMPTY_MODELS.search(text) and not excerpts.blocks)
    return None if has_none and not excerpts.may_include else load_config(path)


def require_name(known: LoadedConfig | None, name: str) -> None:
    """Raise `EntryError` if no model can have this name, or there is one already."""
    for message in name_problems(name):
        raise EntryError(f"'{name}': {message}")
    if known is not None:
        _require_free(known, name)


def _require_free(known: LoadedConfig, name: str) -> None:
    taken = {existing.casefold(): existing for existing in (*known.config.models, *known.broken)}
    if existing := taken.get(name.casefold()):
        file = shown_path(known.file_of(existing))
        raise EntryError(
            f"{file}: there is a model '{existing}' already; choose another name, or edit its entry"
        )


def _with_entry(text: str, name: str, lines: list[str], path: Path) -> str:
    is_crlf = "\r\n" in text and text.count("\n") == text.count("\r\n")
    if is_crlf:
        return _with_entry(text.replace("\r\n", "\n"), name, lines, path).replace("\n", "\r\n")
    if blocks := Excerpts(text).blocks:
        indent = re.match(r"[ ]*", text[blocks[-1].start :])
        end = _end_of_content(text, blocks[-1].start, blocks[-1].end)
        entry = _entry(name, lines, indent[0] if indent else _INDENT)
        return _joined(text[:end], ["", *entry], text[end:])
    entry = _entry(name, lines, _INDENT)
    if empty := _EMPTY_MODELS.search(text):
        comment = f"  {empty[1].rstrip()}" if empty[1] else ""
        return _joined(text[: empty.start()], [f"models:{comment}", *entry], text[empty.end() :])
    if _MODELS_KEY.search(text):
        raise EntryError(
            f"{shown_path(path)}: `models:` is not written as one line for each name, so nothing can be "
            "added to it safely; add this entry yourself:\n" + "\n".join(entry)
        )
    return _joined(text, ["models:", *entry], "")


def _entry(name: str, lines: list[str], indent: str) -> list[str]:
    return [f"{indent}{name}:", *(f"{indent}{_INDENT}{line}" if line else "" for line in lines)]


def _end_of_content(text: str, start: int, end: int) -> int:
    """Where the last model's own lines end: what follows are blank lines and the next section's comments."""
    kept = text[start:end].split("\n")
    while kept and (not kept[-1].strip() or kept[-1].startswith("#")):
        kept.pop()
    return start + len("\n".join(kept))


def _joined(before: str, lines: list[str], after: str) -> str:
    """The lines between two pieces, each of which may or may not end or begin with a line break."""
    head = before if not before or before.endswith("\n") else before + "\n"
    return head + "\n".join(lines) + "\n" + after.removeprefix("\n")


@contextlib.contextmanager
def _written_beside(path: Path, text: str) -> Iterator[Path]:
    """In the same folder: relative paths must mean the same, and renaming must be one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(path.stat().st_mode & 0o777 if path.exists() else _FILE_MODE)
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _require_same(path: Path, text: str, known: LoadedConfig | None, name: str) -> None:
    """Raise `EntryError` unless the new text has all models as they were, and the new one."""
    try:
        loaded = load_text(path, text)
        loaded.model(name)
    except ConfigError as error:
        raise EntryError(f"nothing was written: {error}") from error
    before = _hashes(known) if known else {}
    after = _hashes(loaded)
    del after[name]
    if before != after or (known and known.broken.keys() != loaded.broken.keys()):
        changed = sorted(one for one in {*before, *after} if before.get(one) != after.get(one))
        raise EntryError(
            f"{shown_path(path)}: with the new entry, other models would change: {', '.join(changed)}; "
            "nothing was written"
        )


def _hashes(loaded: LoadedConfig) -> dict[str, str]:
    return {name: model.config_hash() for name, model in loaded.config.models.items()}
