"""Finds texts for people: those in a source that cannot be translated, and all of a page.

A text in a source is what reads like English: two words side by side, or one with a capital letter in front.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser

from babel.messages.jslexer import tokenize
from jinja2 import nodes

from mlops_plugin.web.languages.extraction import KEYWORDS
from mlops_plugin.web.pages import Pages

_HOLE = "\N{OBJECT REPLACEMENT CHARACTER}"  # a value's place in a template
_TRANSLATING = frozenset(KEYWORDS)
_SPOKEN_ATTRIBUTES = frozenset(("alt", "aria-label", "data-label", "placeholder", "title"))
_SELECTING = frozenset(("querySelector", "querySelectorAll", "closest", "has"))
_CODE_TAGS = frozenset(("code", "kbd", "script", "style"))
_TAG = re.compile(r"<[^>]*>")
_ENGLISH = re.compile(r"[A-Za-z]{2,} [A-Za-z]{2,}|^\W*[A-Z][a-z]{2,}\W*$")
# Names that no language changes, signs of units, and of the clock.
_NAMES = re.compile(r"\b(Showroom|Airflow|DAG|SQL|NULL|UTC|CSV|ms|min|MB)\b")


def in_template(source: str) -> list[str]:
    """Texts between tags, in spoken attributes and in expressions, outside of `trans` and `_()`."""
    tree = Pages().environment.parse(source)
    parser = _Spoken()
    parser.feed("".join(_data(tree)))
    parser.close()
    return [*parser.found, *(text for text in _constants(tree) if _is_english(text))]


def of_page(html: str) -> set[str]:
    """What a page says, aloud or in print."""
    parser = _Spoken()
    parser.feed(html)
    parser.close()
    return set(parser.found)


def in_script(source: str) -> list[str]:
    """Strings of a script that `gettext` is not called with."""
    found, calls, name = [], list[str](), ""
    for token in tokenize(source, dotted=False, template_string=True):
        if token.type == "operator" and token.value == "(":
            calls.append(name)
        elif token.type == "operator" and token.value == ")" and calls:
            calls.pop()
        name = token.value if token.type == "name" else ""
        if token.value.strip("'\"") == "use strict":
            continue
        is_asked = bool(calls) and calls[-1] in _TRANSLATING | _SELECTING
        if token.type in ("string", "template_string") and not is_asked:
            text = re.sub(r"\$\{[^}]*\}", _HOLE, token.value[1:-1])
            found += [text] if _is_english(text) else []
    return found


def in_presenter(source: str) -> list[str]:
    """Strings of a module that no translating function is called with, and calls of one without a literal."""
    return [text for text in _strings(ast.parse(source)) if _is_english(text)]


def _is_english(text: str) -> bool:
    bare = _NAMES.sub("", _TAG.sub("", text))
    return bool(_ENGLISH.search(bare) or re.search(rf"{_HOLE},? [a-z]{{2,}}|[a-z]{{2,}} {_HOLE}", bare))


class _Spoken(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _CODE_TAGS:
            self._open.append(tag)
        self.found += [
            f"{name}={value}"
            for name, value in attrs
            if name in _SPOKEN_ATTRIBUTES and re.search(r"[A-Za-z]{2,}", _NAMES.sub("", value or ""))
        ]

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open and re.search(r"[A-Za-z]{2,}", _NAMES.sub("", data)):
            self.found.append(data.strip())


def _data(node: nodes.Node) -> Iterator[str]:
    """The markup of a template with a hole for each value."""
    if isinstance(node, nodes.TemplateData):
        yield node.data
    elif isinstance(node, nodes.Output):
        for part in node.nodes:
            yield from _data(part) if isinstance(part, nodes.TemplateData) else (_HOLE,)
    else:
        for child in node.iter_child_nodes():
            yield from _data(child)


def _constants(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Compare):
        return
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in _TRANSLATING:
        for value in node.kwargs:
            yield from _constants(value.value)
        return
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node.value
    for child in node.iter_child_nodes():
        yield from _constants(child)


# Names of permissions, and what is said to programmers: descriptions of the API, errors of validators.
_PERMITTING = frozenset(("reads", "creates", "may_see", "may_use"))
_FOR_PROGRAMMERS = frozenset(("APIRouter", "FastAPI", "Field", "Query", "ValueError", "compile"))


def _strings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        is_log = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "_log"
        if name in _FOR_PROGRAMMERS | _PERMITTING or is_log:
            return
        if name in _TRANSLATING and isinstance(node.func, ast.Name):
            if not all(isinstance(argument, ast.Constant) for argument in node.args[:1]):
                yield f"this is no literal: {ast.unparse(node)}"
            for keyword in node.keywords:
                yield from _strings(keyword.value)
            return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.Compare) or (isinstance(node, ast.keyword) and node.arg == "tags"):
        return
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("Literal", "Annotated"):
        return
    if isinstance(node, ast.JoinedStr):
        parts = (str(part.value) if isinstance(part, ast.Constant) else _HOLE for part in node.values)
        yield "".join(parts)
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from _strings(part.value)
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from _strings(child)
