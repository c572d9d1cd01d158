"""Turns pydantic's errors into messages for the person who writes config.yaml; `loader` calls it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from mlops_plugin.config.document import Document, KeyPath, describe, parse
from mlops_plugin.config.schema import ModelConfig, Section
from mlops_plugin.errors import Problem

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list, e.g. [a, b]",
    "datetime_type": "a date or time, e.g. 2026-01-31",
}
# Set by the loader, never written in the file.
HIDDEN_KEYS: Mapping[type[Section], frozenset[str]] = {ModelConfig: frozenset({"name"})}


def explain(
    error: ValidationError,
    section: type[Section],
    document: Document,
    prefix: KeyPath = (),
    settings: Document | None = None,
) -> list[Problem]:
    """One `Problem` per error. `prefix` is the place of `section` in the document.

    What a model does not have itself comes from `defaults` in the document `settings`.
    """
    problems = []
    for details in error.errors(include_url=False, include_input=False):
        path = (*prefix, *details["loc"])
        origin, place = document, path
        inherited = ("defaults", *details["loc"])
        is_own = document.has((*prefix, *details["loc"][:1]))
        if settings is not None and not is_own and settings.has(inherited):
            origin, place = settings, inherited
        message = _explain_one(dict(details), section, origin, place)
        problems.append(Problem(origin.file, origin.line(place), dotted(path), message))
    return problems


def explain_entry(error: ValidationError, name: str, entry: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the entry of a model that no file has yet."""
    written = yaml.safe_dump({"models": {name: json.loads(json.dumps(entry))}})
    places = explain(error, ModelConfig, parse(written), ("models", name))
    return [Problem(name, None, one.path.removeprefix(f"models.{name}."), one.message) for one in places]


def dotted(path: KeyPath) -> str:
    """`('models', 'churn', 'key', 0)` as `models.churn.key[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def suggest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? ` if a known name is close, else nothing."""
    near = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'? " if near else ""


def keys_of(section: type[Section]) -> list[str]:
    """The keys that may be written in a section."""
    return [name for name in section.model_fields if name not in HIDDEN_KEYS.get(section, ())]


def unknown_key(name: str, section: type[Section]) -> str:
    """The message about a key that a section does not have."""
    keys = keys_of(section)
    return f"unknown key; {suggest(name, keys).rstrip() or 'the keys are ' + ', '.join(keys)}"


def expected_mapping(section: type[Section]) -> str:
    """What a section looks like: the keys it needs, or else those it may have."""
    keys = keys_of(section)
    required = [key for key in keys if section.model_fields[key].is_required()]
    return f"expected a mapping with the keys {', '.join(required or keys)}"


def section_in(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, if it holds one (itself, or as the values of a mapping)."""
    candidates = [field.annotation]
    while candidates:
        candidate = candidates.pop()
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
        candidates.extend(get_args(candidate))
    return None


def _explain_one(details: dict[str, Any], section: type[Section], document: Document, path: KeyPath) -> str:
    owner, field = _find(section, details["loc"])
    kind, context = details["type"], details.get("ctx", {})
    node = document.node(path)
    is_secret = "connection" in path  # people write passwords there
    if is_secret and kind in ("string_type", "extra_forbidden"):
        return "expected the id of an Airflow connection (the value is not shown, in case it is a secret)"
    found = describe(node)
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        return unknown_key(str(path[-1]), owner)
    if kind == "missing":
        return f"missing; required: {_lower(field)}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"found {found}, {expected_mapping(owner)}"
    if kind in _EXPECTED:
        hint = _quote_hint(node) if kind == "string_type" else ""
        return f"found {found}, expected {_EXPECTED[kind]}{hint}"
    if kind in _LIMITS:
        return f"found {found}, expected {_LIMITS[kind](context)}"
    if kind == "literal_error":
        choices = context["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        near = suggest(str(getattr(node, "value", "")), choices)
        return f"found {found}, expected one of {', '.join(choices)}; {near}".rstrip("; ")
    return f"found {found}: {details['msg']}"


_LIMITS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than_equal": lambda context: f"at least {context['ge']}",
    "less_than_equal": lambda context: f"at most {context['le']}",
    "string_too_short": lambda context: f"at least {context['min_length']} character(s)",
    "string_too_long": lambda context: f"at most {context['max_length']} characters",
    "too_short": lambda context: f"at least {context['min_length']} item(s)",
    "string_pattern_mismatch": lambda _: "text on one line",
}


def _quote_hint(node: Any) -> str:
    value = getattr(node, "value", None)
    return f"; to write it as text, use quotes: '{value}'" if isinstance(value, str) and value else ""


def _lower(field: FieldInfo | None) -> str:
    description = (field.description if field else None) or ""
    return description.split(". ")[0].rstrip(".")


def _find(section: type[Section], loc: KeyPath) -> tuple[type[Section], FieldInfo | None]:
    """The innermost section that `loc` leads to, and its field."""
    owner, field = section, None
    for part in loc:
        field = owner.model_fields.get(part) if isinstance(part, str) else field
        inner = section_in(field) if field and isinstance(part, str) else None
        owner = inner or owner
    return owner, field
