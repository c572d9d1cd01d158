"""A YAML file as plain values whose places in the file are known; `loader` reads config.yaml with it.

Only plain YAML passes: no custom tags, no duplicate or non-text keys, no alias bombs. Lists arrive as
tuples. What is wrong with the content is collected in `Document.flaws`; what cannot be read raises
`Unreadable`.
"""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mlops_plugin.masking import masked

LARGEST_FILE = 32 * 1024 * 1024  # bytes; 1,000 models take half a megabyte
_DEEPEST = 30
# Aliases let a few lines stand for billions of values; 1,000 models have 40,000 written out.
_MOST_VALUES = 500_000
_TAG = "tag:yaml.org,2002:"
_MERGE_TAG = _TAG + "merge"
_KIND = {"int": "number", "float": "number", "bool": "boolean", "null": "null", "timestamp": "date"}
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAB_INDENT = re.compile(r"^ *\t+[ \t]*[^\s#]", re.MULTILINE)

# A value whose first character means something else in YAML: @hourly, */5 * * * *, %d, `x`.
_UNQUOTED = re.compile(r"\s*(?:-\s+)*(?P<key>[\w.\-]+:\s+)?(?P<value>[@`%*&].*?)\s*(?:\s#.*)?$")

_LONGEST_SCALAR = 1000  # characters of a number, a time, a boolean

KeyPath = tuple[str | int, ...]


class Unreadable(Exception):
    """The file cannot be read; `line` (from 1) is None if the fault has none."""

    def __init__(self, message: str, line: int | None = None) -> None:
        self.line = line
        super().__init__(message)


class FileMissing(Unreadable):
    """There is no such file."""


@dataclass(frozen=True)
class Flaw:
    """Something in the content that no configuration may hold."""

    path: KeyPath
    line: int
    message: str


@dataclass
class Document:
    """The content of a file: `value` as plain Python, and where each part of it stands."""

    value: Any
    root: Node | None
    flaws: list[Flaw] = field(default_factory=list)
    file: str = ""  # as messages show it
    # The keys of each mapping that was looked into: thousands of models may have a problem each.
    _keys: dict[int, dict[str, tuple[Node, Node]]] = field(default_factory=dict, repr=False)

    def line(self, path: KeyPath) -> int | None:
        """Line (from 1) of the key or list item at `path`, or of its nearest parent that is written."""
        node, line = self.root, None
        for part in path:
            key, node = self._child(node, part)
            if key is None:
                break
            line = _line(key)
        return line

    def first_line_of_text(self, path: KeyPath) -> int | None:
        """Line (from 1) of the first line of a text whose lines the file has as they are; else None."""
        node = self.node(path)
        if not isinstance(node, ScalarNode):
            return None
        if node.style == "|":
            return _line(node) + 1
        return _line(node) if node.start_mark.line == node.end_mark.line else None

    def node(self, path: KeyPath) -> Node | None:
        """What is written at `path`."""
        node = self.root
        for part in path:
            _, node = self._child(node, part)
        return node

    def has(self, path: KeyPath) -> bool:
        return self.node(path) is not None

    def _child(self, node: Node | None, part: str | int) -> tuple[Node | None, Node | None]:
        """The key (or item) and value of `part` in a node; merged mappings are looked into as well."""
        if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            return node.value[part], node.value[part]
        if not isinstance(node, MappingNode):
            return None, None
        if id(node) not in self._keys:  # the root keeps all nodes alive
            self._keys[id(node)] = _by_key(node)
        if found := self._keys[id(node)].get(str(part)):
            return found
        for key, value in node.value:
            if key.tag == _MERGE_TAG:
                for source in value.value if isinstance(value, SequenceNode) else [value]:
                    key_of_source, of_source = self._child(source, part)
                    if key_of_source is not None:
                        return key_of_source, of_source
        return None, None


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; raises `Unreadable` with the fault and its fix."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise Unreadable("this is a folder; name the configuration file in it")
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("this is not a regular file")
        if status.st_size > LARGEST_FILE:
            raise Unreadable(f"the file has {status.st_size} bytes; at most {LARGEST_FILE} are read")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileMissing("no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise Unreadable(f"cannot be read: {reason}") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("the file is UTF-16 or UTF-32; save it as UTF-8", 1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{data[error.start]:02X}"
        raise Unreadable(
            f"{found} is not UTF-8; the file looks like Latin-1 or Windows-1252, save it as UTF-8", line
        ) from error


def parse(text: str, file: str = "") -> Document:
    """Parse the YAML of a file, whose name messages show; raises `Unreadable` if it is invalid."""
    try:
        root = _Composer(text).get_single_node()
    except yaml.YAMLError as error:
        raise _explain_syntax(text, error) from error
    if root is None:
        return Document(None, None, file=file)
    reader = _Reader()
    value = reader.read(root, ())
    return Document(value, root, reader.flaws, file)


class _Composer(yaml.CSafeLoader):
    """libyaml's composer, with a limit on nesting: it recurses in C and would crash."""

    _depth = 0

    def descend_resolver(self, current_node: Node, _index: object) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            line = _line(current_node) if current_node else None
            raise Unreadable(f"nested more than {_DEEPEST} levels deep", line)

    def ascend_resolver(self) -> None:
        self._depth -= 1


class _Reader:
    """Turns nodes into plain values, and notes what is flawed in them."""

    def __init__(self) -> None:
        self.flaws: list[Flaw] = []
        self._values = 0
        self._scalars = SafeConstructor()
        self._makers: dict[str, Callable[[ScalarNode], Any]] = {
            _TAG + "int": self._scalars.construct_yaml_int,
            _TAG + "float": self._scalars.construct_yaml_float,
            _TAG + "bool": self._scalars.construct_yaml_bool,
            _TAG + "null": self._scalars.construct_yaml_null,
            _TAG + "timestamp": self._scalars.construct_yaml_timestamp,
        }

    def read(self, node: Node, path: KeyPath) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise Unreadable(f"more than {_MOST_VALUES} values once its aliases are expanded", _line(node))
        if len(path) > _DEEPEST:
            raise Unreadable(
                f"nested more than {_DEEPEST} levels deep; an alias may contain itself", _line(node)
            )
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, MappingNode):
            self._expect_tag(node, "map", path)
            return self._mapping(node, path)
        self._expect_tag(node, "seq", path)
        return tuple([self.read(item, (*path, index)) for index, item in enumerate(node.value)])

    def _scalar(self, node: ScalarNode, path: KeyPath) -> Any:
        if node.tag == _TAG + "str" or node.tag == _TAG + "value":  # `=` alone
            if "\0" in node.value:  # Airflow's database would refuse it, and all models of the DAG file
                self._flaw(node, path, "the text holds a NUL character; remove it")
            return node.value
        maker = self._makers.get(node.tag)
        if maker is None:
            if node.tag != _MERGE_TAG:
                self._expect_tag(node, "", path)
            return node.value
        base = None if node.style or len(node.value) > _LONGEST_SCALAR else _other_base(node)
        if base is not None:
            message = f"YAML reads {_shorten(node.value)} as a number of base {base}; write it in decimal, or"
            self._flaw(node, path, f"{message} text in quotes: '{_shorten(node.value)}'")
        if len(node.value) <= _LONGEST_SCALAR:  # reading a longer one could take minutes
            with contextlib.suppress(ValueError, LookupError, AttributeError, OverflowError):
                return maker(node)
        kind = _KIND[node.tag.removeprefix(_TAG)]
        self._flaw(node, path, f"{_shorten(node.value)} is not a valid {kind}; put text in quotes")
        return None

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        for key, item in node.value:
            if key.tag == _MERGE_TAG:
                # The mapping that is named first wins, and what is written here wins over both.
                merged = {**self._merge(item, path), **merged}
                continue
            name = key.value
            if key.tag != _TAG + "str" or not isinstance(name, str):
                where = (*path, name) if isinstance(name, str) and name else path
                self._flaw(key, where, _explain_key(key))
                continue
            if name in own:
                first = lines[name]
                self._flaw(key, (*path, name), f"duplicate key, first in line {first}; keep one")
                continue
            lines[name] = _line(key)
            own[name] = self.read(item, (*path, name))
        return {**merged, **own} if merged else own

    def _merge(self, node: Node, path: KeyPath) -> dict[str, Any]:
        sources = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in sources:
            if not isinstance(source, MappingNode):
                self._flaw(source, path, "<<: expects an alias of a mapping, e.g. <<: *defaults")
                continue
            merged = {**self.read(source, (*path, "<<")), **merged}
        return merged

    def _expect_tag(self, node: Node, name: str, path: KeyPath) -> None:
        if node.tag != _TAG + name:
            tag = node.tag.replace(_TAG, "!!")
            self._flaw(node, path, f"the tag {_shorten(tag)} is not allowed; write a plain value")

    def _flaw(self, node: Node, path: KeyPath, message: str) -> None:
        self.flaws.append(Flaw(path, _line(node), message))


def _other_base(node: ScalarNode) -> int | None:
    """The base of a number that people read as a decimal one or as a time: 010 is 8, and 1:30 is 90."""
    if ":" in node.value and node.tag in (_TAG + "int", _TAG + "float"):
        return 60
    is_octal = node.tag == _TAG + "int" and re.fullmatch("[-+]?0[0_]*[1-7][0-7_]*", node.value)
    return 8 if is_octal else None


def describe(node: Node | None) -> str:
    """What is written at a node, in words: `the number 5`, `the text 'x'`, `a list`, `nothing`."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    if node is None or node.tag == _TAG + "null":
        return "nothing"
    kind = _KIND.get(node.tag.removeprefix(_TAG))
    return f"the text {_shorten(repr(node.value))}" if kind is None else f"the {kind} {_shorten(node.value)}"


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _by_key(node: MappingNode) -> dict[str, tuple[Node, Node]]:
    """The first of each key, without what is merged."""
    found: dict[str, tuple[Node, Node]] = {}
    for key, value in node.value:
        if isinstance(key, ScalarNode) and key.tag != _MERGE_TAG:
            found.setdefault(key.value, (key, value))
    return found


def _explain_key(key: Node) -> str:
    if not isinstance(key, ScalarNode):
        return "a key is a text, but this one is a list or a mapping; Jinja braces {{ }} need quotes"
    if key.tag == _TAG + "null":
        return "the key is empty; write its name before the colon"
    kind = _KIND.get(key.tag.removeprefix(_TAG))
    if kind is None:
        return f"the key {_shorten(key.value)} has a tag; write it as plain text"
    return f"YAML reads the key {key.value} as a {kind}; put it in quotes: '{key.value}'"


def _explain_syntax(text: str, error: yaml.YAMLError) -> Unreadable:
    """libyaml's error as a message for the person who edits the file."""
    control = _CONTROL.search(text)
    if control:
        code = f"U+{ord(control.group()):04X}"
        return Unreadable(f"the character {code} is not allowed", _line_at(text, control.start()))
    if not isinstance(error, yaml.MarkedYAMLError):
        return Unreadable(f"invalid YAML: {error}")
    mark = error.problem_mark or error.context_mark
    line = None if mark is None else mark.line + 1
    tab = _TAB_INDENT.search(text)
    if tab and line is not None and _line_at(text, tab.start()) <= line:
        return Unreadable("the line is indented with a tab; YAML takes spaces", _line_at(text, tab.start()))
    problem = error.problem or "not YAML"
    written = (text.split("\n")[line - 1 :] or [""])[0] if line is not None else ""
    unquoted = _UNQUOTED.match(written) if len(written) <= _LONGEST_SCALAR else None
    if unquoted is not None and "undefined alias" not in problem:
        key, value = unquoted["key"] or "", unquoted["value"]
        quote = "'" if '"' in value else '"'
        fix = f"{key}{quote}{value}{quote}"
        return Unreadable(f"a value that begins with {value[0]} needs quotes; write {_shorten(fix)}", line)
    if "single document" in (error.context or ""):
        return Unreadable("a second document begins here (---); keep one", line)
    context = ""
    if error.context and error.context_mark and error.context_mark.line + 1 != line:
        context = f" ({error.context} that starts in line {error.context_mark.line + 1})"
    return Unreadable(f"invalid YAML: {problem}{context}; check indentation, colons and quotes", line)


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _shorten(text: str) -> str:
    text = masked(text)  # before it is cut: half an address is not found to be one
    return text if len(text) <= 60 else text[:57] + "..."
