"""Sentences that a page can say in the reader's language; everywhere else they are plain English text."""

from __future__ import annotations

from collections.abc import Mapping


class Sentence(str):
    """`template % values`, which remembers both; values that are sentences are translated, too.

    Templates are looked up in the catalogues of `web/languages`, so a template is always a literal.
    """

    __slots__ = ("template", "values")
    template: str
    values: Mapping[str, object]

    def __new__(cls, template: str, **values: object) -> Sentence:
        made = super().__new__(cls, template % values)
        made.template, made.values = template, values
        return made
