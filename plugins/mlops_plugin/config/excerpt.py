"""Cuts single models out of a configuration's text, by its lines and without parsing it.

A task needs one model of perhaps a thousand, and a model whose YAML is broken must not hide the
others. Both read a text in which the other models' lines are blank, so line numbers stay right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MODELS = re.compile(r"^models:[ \t]*(?:#.*)?\r?$", re.MULTILINE)
_MODELS_KEY = re.compile(r"""^["']?models["']?[ \t]*:""", re.MULTILINE)
_NO_MODELS = re.compile(r"^models:[ \t]*\{[ \t]*\}[ \t]*(?:#.*)?\r?$", re.MULTILINE)
_INCLUDE_KEY = re.compile(r"^include:", re.MULTILINE)
_TOP_LEVEL = re.compile(r"^[^\s#]", re.MULTILINE)
_FIRST_ENTRY = re.compile(r"^( +)[^\s#]", re.MULTILINE)
_HEADER = re.compile(r"""(["']?)([A-Za-z0-9_.\-]+)\1:[ \t]*(?:#.*)?\r?""")
# What could mean something else in an excerpt than in the whole file: aliases, a second document, quoted
# texts and lists over several lines (their lines may look like keys), line breaks that only YAML knows.
_ALIAS = re.compile(r"(?:[:,\-][ \t]+|[\[{][ \t]*)\*[^\s*/,]|^[ \t]+\*\S+[ \t]*$", re.MULTILINE)
_STRANGE_TOP_LEVEL = re.compile(r"^(?!\s|#|[A-Za-z_]+:|\Z)", re.MULTILINE)
_OPEN_VALUE = re.compile(
    r"""
    ^[ \t]*(?:-[ \t]+)*                        # list dashes
    (?:["']?[\w.\-]+["']?[ \t]*:[ \t]+)?       # a key
    (?:[&!]\S*[ \t]+)*                         # anchors and tags
    (?: "(?:[^"\\\n]|\\.)*+ | '(?:[^'\n]|'')*+ | [\[{](?![{%\#])[^\]}\n]*+ )$
    """,
    re.MULTILINE | re.VERBOSE,
)
_STRANGE_BREAKS = ("\x85", "\u2028", "\u2029")


@dataclass(frozen=True)
class Block:
    """The lines of one model, as positions in the text."""

    name: str
    start: int
    end: int


class Excerpts:
    """A configuration's text, cut into its models; `blocks` is empty if it has no `models:` lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.blocks, self._has_strange_entries = _cut(text)

    def without_models(self) -> str:
        """Everything but the models."""
        first, last = self.blocks[0].start, self.blocks[-1].end
        return self.text[:first] + "\n" * self.text.count("\n", first, last) + self.text[last:]

    def with_only(self, block: Block) -> str:
        """Everything but the other models."""
        first, last = self.blocks[0].start, self.blocks[-1].end
        before = "\n" * self.text.count("\n", first, block.start)
        after = "\n" * self.text.count("\n", block.end, last)
        kept = self.text[block.start : block.end]
        return self.text[:first] + before + kept + after + self.text[last:]

    def faithful(self, name: str) -> str | None:
        """The text with one model only, if it certainly means the same as in the whole file; else None."""
        found = [block for block in self.blocks if block.name == name]
        if len(found) != 1 or not self._is_regular:
            return None
        excerpt = self.with_only(found[0])
        return None if _ALIAS.search(excerpt) or _OPEN_VALUE.search(excerpt) else excerpt

    def faithful_settings(self) -> str | None:
        """The text without models, if it certainly means the same as in the whole file; else None."""
        if self._has_no_models:
            return self.text
        if not self.blocks or not self._is_regular:
            return None
        excerpt = self.without_models()
        return None if _ALIAS.search(excerpt) or _OPEN_VALUE.search(excerpt) else excerpt

    def may_have(self, name: str) -> bool:
        """Whether there is a model of this name; True as well if only YAML could tell."""
        if name not in self.text and "\\" not in self.text:  # `"chur\x6e":` is `churn`
            return False
        if not self.blocks:
            return not self._has_no_models
        return not self._is_regular or any(block.name == name for block in self.blocks)

    @property
    def may_include(self) -> bool:
        """Whether other files are named, if the text is written regularly."""
        return _INCLUDE_KEY.search(self.text) is not None

    @property
    def _has_no_models(self) -> bool:
        """Whether the text certainly has no entry: no `models:`, or `models: {}`."""
        return not (
            self.blocks
            or len(_MODELS_KEY.findall(self.text)) != len(_NO_MODELS.findall(self.text))
            or any(line_break in self.text for line_break in _STRANGE_BREAKS)
            or self.text.count("\r") != self.text.count("\r\n")
            or _STRANGE_TOP_LEVEL.search(self.text)
        )

    @property
    def _is_regular(self) -> bool:
        """Whether the models' lines are cut where YAML would cut them.

        A key inside a quoted text of another model only cuts that model short. One in the last model could
        look like the end of the section.
        """
        text, last = self.text, self.blocks[-1]
        return not (
            self._has_strange_entries
            or len(_MODELS_KEY.findall(text)) != 1
            or any(line_break in text for line_break in _STRANGE_BREAKS)
            or text.count("\r") != text.count("\r\n")
            or _STRANGE_TOP_LEVEL.search(text)
            or _OPEN_VALUE.search(text, last.start, last.end)
        )


def _cut(text: str) -> tuple[tuple[Block, ...], bool]:
    """The models' lines, and whether an entry is written in any other way than as a plain `name:` line."""
    models = _MODELS.search(text)
    if models is None:
        return (), True
    next_section = _TOP_LEVEL.search(text, models.end())
    end = next_section.start() if next_section else len(text)
    first = _FIRST_ENTRY.search(text, models.end(), end)
    if first is None:
        return (), True
    entries = re.compile(rf"^{first[1]}(?=[^\s#])(.*)$", re.MULTILINE)
    headers: list[tuple[str, int]] = []
    has_strange_entries = False
    for entry in entries.finditer(text, first.start(), end):
        header = _HEADER.fullmatch(entry[1])
        if header:
            headers.append((header[2], entry.start()))
        else:
            has_strange_entries = True
    if not headers:
        return (), True
    ends = [start for _, start in headers[1:]] + [end]
    blocks = tuple(Block(name, start, stop) for (name, start), stop in zip(headers, ends, strict=True))
    return blocks, has_strange_entries
