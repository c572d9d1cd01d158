"""The language of the page that is being made, and texts in it.

English texts stand in the code and are the keys of the catalogues, with `%(name)s` for values and `%%` for a
percent sign. `extraction` finds them by the names of these functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mlops_plugin.sentences import Sentence
from mlops_plugin.web.languages.catalogues import ENGLISH, LANGUAGES, Language, translations

_code: ContextVar[str] = ContextVar("language", default=ENGLISH)


@contextmanager
def speaking(code: str) -> Iterator[None]:
    """Everything inside speaks that language; in this task and the threads that it waits for."""
    before = _code.set(code)
    try:
        yield
    finally:
        _code.reset(before)


def current_code() -> str:
    """The code of the language, as `LANGUAGES` has it."""
    return _code.get()


def current_language() -> Language:
    """The language."""
    return LANGUAGES[_code.get()]


def gettext(message: str, **values: Any) -> str:
    """A text."""
    return raw_gettext(message) % values


def ngettext(singular: str, plural: str, number: int, **values: Any) -> str:
    """A text about a number of things; `%(number)s` is the number unless `values` have it as text."""
    return raw_ngettext(singular, plural, number) % {"number": number, **values}


def pgettext(context: str, message: str) -> str:
    """A text that means different things in different places; the context says which."""
    return raw_pgettext(context, message)


def word_of(state: str) -> str:
    """A word that is stored or sent in English: a state, an outcome, an origin."""
    return raw_pgettext(WORD, state)


def translate(text: str) -> str:
    """A sentence of the layers below; any other text as it is."""
    if not isinstance(text, Sentence):
        return text
    values = {
        name: translate(value) if isinstance(value, str) else value for name, value in text.values.items()
    }
    return raw_gettext(text.template) % values


# For Jinja, which puts the values in by itself, and escapes them.
WORD = "word"  # the context of such words in a catalogue


def raw_gettext(message: str) -> str:
    return translations(_code.get()).gettext(message)


def raw_ngettext(singular: str, plural: str, number: int) -> str:
    return translations(_code.get()).ngettext(singular, plural, number)


def raw_pgettext(context: str, message: str) -> str:
    return translations(_code.get()).pgettext(context, message)
