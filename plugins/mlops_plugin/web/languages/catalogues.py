"""The languages that the pages have, and the catalogue of each: a `.po` file beside this module.

A catalogue is read as it is committed: nothing has to be compiled when the package is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path

from babel.core import Locale
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

FOLDER = Path(__file__).parent
ENGLISH = "en"  # of the texts in the code; it has no catalogue


@dataclass(frozen=True)
class Language:
    """A language: `tag` as HTML names it, `cron` as cron-descriptor names the nearest one that it has."""

    tag: str
    cron: str

    @property
    def locale(self) -> Locale:
        return Locale.parse(self.tag, sep="-")


# By the codes of Airflow's UI. The first one stands in for all others.
LANGUAGES: Mapping[str, Language] = {
    ENGLISH: Language("en", "en_US"),
    "pt": Language("pt-BR", "pt_PT"),
}


def file_of(code: str) -> Path:
    """Where a language's catalogue is kept."""
    return FOLDER / f"{code}.po"


def read_catalogue(code: str) -> Catalog:
    """A language's catalogue with its comments, as translators see it."""
    with file_of(code).open("rb") as file:
        return read_po(file, locale=LANGUAGES[code].tag.replace("-", "_"))


@cache
def translations(code: str) -> NullTranslations:
    """The texts of a language; of English, the texts themselves."""
    if code == ENGLISH:
        return NullTranslations()
    compiled = BytesIO()
    write_mo(compiled, read_catalogue(code))
    compiled.seek(0)
    return GNUTranslations(compiled)


@cache
def script_words(code: str) -> Mapping[str, str | list[str]]:
    """The texts of the scripts, by their English; of one with a plural, both forms."""
    if code == ENGLISH:
        return {}
    words: dict[str, str | list[str]] = {}
    for message in read_catalogue(code):
        if any(file.endswith(".js") for file, _ in message.locations):
            translated = forms(message.string)
            words[forms(message.id)[0]] = translated[0] if isinstance(message.id, str) else list(translated)
    return words


def forms(text: str | Sequence[str] | None) -> tuple[str, ...]:
    """All forms of a text in a catalogue; without a plural there is one."""
    return (text or "",) if text is None or isinstance(text, str) else tuple(text)
