"""Every catalogue has every text of the pages, translated, with the same values and the same markup."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from mlops_plugin.web import badges
from mlops_plugin.web.languages.catalogues import (
    ENGLISH,
    FOLDER,
    LANGUAGES,
    file_of,
    forms,
    read_catalogue,
    script_words,
    translations,
)
from mlops_plugin.web.languages.extraction import rendered, texts, update, words
from mlops_plugin.web.languages.translation import WORD

CODES = [code for code in LANGUAGES if code != ENGLISH]
VALUE = re.compile(r"%\((\w+)\)s")
MARKUP = re.compile(r"<[^>]+>|\"")


def pairs(code: str) -> Iterator[tuple[str, str]]:
    """Each text with its translation; of one with a plural, each form with the English one it stands for."""
    for message in read_catalogue(code):
        if not message.id:
            continue  # the file's own head
        english, (singular, *others) = forms(message.id), forms(message.string)
        yield english[0], singular
        yield from ((english[-1], form) for form in others)


def test_each_language_has_its_catalogue_and_no_catalogue_is_without_a_language() -> None:
    assert {file.stem for file in FOLDER.glob("*.po")} == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_catalogue_has_the_texts_of_the_code_and_no_others(code: str) -> None:
    # `python -m mlops_plugin.web.languages.extraction` brings it up to date.
    assert file_of(code).read_bytes() == rendered(code, update(code))


@pytest.mark.parametrize("code", CODES)
def test_every_text_is_translated(code: str) -> None:
    catalogue = read_catalogue(code)
    counted = [forms(message.string) for message in catalogue if not isinstance(message.id, str)]
    assert {len(found) for found in counted} == {catalogue.num_plurals}
    assert [
        english for english, translated in pairs(code) if not translated.strip() and english.strip()
    ] == []
    assert not any(message.fuzzy for message in catalogue if message.id)


@pytest.mark.parametrize("code", CODES)
def test_a_translation_has_the_values_and_the_markup_of_its_text(code: str) -> None:
    for english, translated in pairs(code):
        for part in (VALUE, MARKUP):
            assert Counter(part.findall(translated)) == Counter(part.findall(english)), english
        assert "%" not in VALUE.sub("", translated), english
        assert (translated[:1].isspace(), translated[-1:].isspace()) == (
            english[:1].isspace(),
            english[-1:].isspace(),
        )


def test_every_state_with_a_look_has_a_word() -> None:
    assert set(badges._LOOKS) <= words()


@pytest.mark.parametrize("code", CODES)
def test_scripts_get_their_own_texts_and_no_others(code: str) -> None:
    own = {
        forms(message.id)[0]
        for message in texts()
        if any(place.endswith(".js") for place, _ in message.locations)
    }
    assert len(own) > 20
    assert script_words(code).keys() == own
    assert script_words(ENGLISH) == {}


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 caso"), (1, "1 caso"), (2, "2 casos"), (1000, "1000 casos")]
)
def test_portuguese_counts_none_and_one_as_one(number: int, said: str) -> None:
    one = "mean absolute error %(error)s over %(number)s case"
    found = translations("pt").ngettext(one, f"{one}s", number)
    assert (found % {"error": "x", "number": number}).endswith(said)


def test_english_is_what_stands_in_the_code() -> None:
    assert translations(ENGLISH).pgettext(WORD, "ok") == "ok"
    assert translations(ENGLISH).gettext("Good day") == "Good day"
