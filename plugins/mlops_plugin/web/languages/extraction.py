"""Finds the texts of the pages in the code, and brings the catalogues up to date with them.

`PYTHONPATH=plugins python -m mlops_plugin.web.languages.extraction` adds new texts to every catalogue, for
translators to fill, and drops those that are no longer used. Nothing of this runs in a deployment.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any, get_args

from babel.messages.catalog import Catalog
from babel.messages.extract import extract, extract_javascript
from babel.messages.pofile import write_po
from jinja2.ext import babel_extract

from mlops_plugin.config.schedules import PRESETS
from mlops_plugin.events.health.incidents import NO_LONGER_WATCHED, IncidentState
from mlops_plugin.events.health.probes import ProbeState
from mlops_plugin.events.records import Origin, State
from mlops_plugin.monitoring import board, database_probe, host_probe
from mlops_plugin.monitoring.health import HealthWord
from mlops_plugin.monitoring.model_state import ModelWord
from mlops_plugin.monitoring.probe_result import Outcome
from mlops_plugin.web.dispatches.story import LOST
from mlops_plugin.web.languages.catalogues import ENGLISH, LANGUAGES, file_of, forms, read_catalogue
from mlops_plugin.web.languages.translation import WORD
from mlops_plugin.web.showroom.results import REJECTED

PACKAGE = Path(__file__).parents[2]
KEYWORDS: dict[str, tuple[Any, ...] | None] = {
    "_": None,
    "gettext": None,
    "ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
    "Sentence": None,
}
# A file without any is not parsed: most of the package's.
_CALL = re.compile(rf"\b(?:{'|'.join(KEYWORDS)})\s*\(".encode())
_JINJA = {"newstyle_gettext": "true", "trimmed": "true", "trim_blocks": "true", "lstrip_blocks": "true"}
_HEADER = """\
# Texts of the pages in {name}; mlops_plugin.web.languages.extraction keeps them up to date.
msgid ""
msgstr ""
"Language: {locale}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: {plurals}\\n"

"""


def _extract_python(
    file: IO[bytes],
    _keywords: Iterable[str],
    _tags: Iterable[str],
    options: Mapping[str, str],  # noqa: ARG001
) -> Iterator[tuple[int, str, tuple[str | None, ...], list[str]]]:
    """Babel's own passes over calls inside f-strings before Python 3.12. It has no `options`."""
    code = file.read()
    if not _CALL.search(code):
        return
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KEYWORDS:
            values = (each.value if isinstance(each, ast.Constant) else None for each in node.args)
            literals = tuple(value if isinstance(value, str) else None for value in values)
            yield node.lineno, node.func.id, literals, []


_METHODS: dict[str, tuple[Callable[..., Any], dict[str, str]]] = {
    ".py": (_extract_python, {}),
    ".js": (extract_javascript, {}),
    ".html": (babel_extract, _JINJA),
}
PROBE_STEPS = {
    board.ANSWER,
    host_probe.RESOLVING,
    database_probe.CONNECTION,
    database_probe.CONNECTING,
    database_probe.QUERY,
}


def words() -> set[str]:
    """What `word_of` is asked for: all states, outcomes and origins that are stored or sent."""
    typed = (ModelWord, HealthWord, State, Origin, Outcome, ProbeState, IncidentState)
    kinds = {word for kind in typed for word in get_args(kind)}
    presets = {preset.removeprefix("@") for preset in PRESETS}
    return kinds | presets | PROBE_STEPS | {LOST, NO_LONGER_WATCHED, REJECTED, "unknown"}


@functools.cache
def texts() -> Catalog:
    """Every text of the pages, by the files that have it; read once, for all languages."""
    found = Catalog(fuzzy=False)
    for file in sorted(PACKAGE.rglob("*")):
        if file.suffix not in _METHODS or file == Path(__file__):
            continue
        method, options = _METHODS[file.suffix]
        place = file.relative_to(PACKAGE).as_posix()
        with file.open("rb") as source:
            for _line, message, _comments, context in extract(method, source, KEYWORDS, options=options):
                found.add(message, locations=[(place, 1)], context=context)
    for word in sorted(words()):
        found.add(word, locations=[("web/languages/extraction.py", 1)], context=WORD)
    return found


def update(code: str) -> Catalog:
    """The language's catalogue with all texts and no others; new ones have no translation."""
    known, catalogue = read_catalogue(code), texts()
    fresh = Catalog(locale=known.locale, fuzzy=False)
    for message in catalogue:
        if not message.id:
            continue
        before = known.get(forms(message.id)[0], message.context)
        kept = before.string if before else ("" if isinstance(message.id, str) else ("",) * fresh.num_plurals)
        places = sorted({(file, 1) for file, _line in message.locations})
        fresh.add(message.id, kept, locations=places, flags=message.flags, context=message.context)
    return fresh


def rendered(code: str, catalogue: Catalog) -> bytes:
    """The file of a language's catalogue; the same texts make the same file."""
    body, locale = BytesIO(), LANGUAGES[code].locale
    write_po(body, catalogue, width=100, include_lineno=False, sort_by_file=True, omit_header=True)
    header = _HEADER.format(name=locale.english_name, locale=locale, plurals=catalogue.plural_forms)
    return header.encode() + body.getvalue()


def main() -> None:
    for code in LANGUAGES:
        if code == ENGLISH:
            continue
        catalogue = update(code)
        file_of(code).write_bytes(rendered(code, catalogue))
        missing = [message.id for message in catalogue if message.id and not all(forms(message.string))]
        print(f"{file_of(code)}: {len(missing)} of {len(catalogue)} texts have no translation")
        for message in missing:
            print(f"  {message}")


if __name__ == "__main__":
    main()
