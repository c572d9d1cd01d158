"""Refuses a query that cannot mean what it says: no SELECT, several statements, or a row limit of its own
beside settings that choose rows.

`collect` asks with the rendered query and the engine; `mlops check` asks without a connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.engines.registry import ENGINE_NAMES
from mlops_plugin.databases.query_parts import QueryParts, parse_query
from mlops_plugin.errors import Problem, QueryError

_SOURCE = "source.query"
_EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)


def require_usable(model: ModelConfig, query: str, engine: str) -> None:
    """Raise `QueryError` for a rendered query that the model's settings cannot use."""
    problem = _problem(model, parse_query(query, engine))
    if problem is None:
        problem = next(_wrong_predicates(model, engine), None)
    if problem is not None:
        place = Problem(*model.place_of(_SOURCE), f"models.{model.name}.{_SOURCE}", problem)
        raise QueryError(str(place).removeprefix(": "))


def find_problems(model: ModelConfig) -> list[Problem]:
    """What is wrong with the model's queries whatever the engine is, each with its place."""
    queries = {_SOURCE: model.source.query}
    if model.showroom.cases:
        queries["showroom.cases"] = model.showroom.cases
    return [
        Problem(*model.place_of(path), f"models.{model.name}.{path}", problem)
        for path, query in queries.items()
        if (problem := _static_problem(model, query, is_source=path == _SOURCE))
    ]


def _static_problem(model: ModelConfig, query: str, *, is_source: bool) -> str | None:
    """What is wrong in each dialect that understands it: without a connection nobody knows which it is."""
    text = _COMMENT.sub("", query)
    if "{%" in text:  # which parts there are depends on the moment
        return None
    text = _EXPRESSION.sub(lambda found: re.sub(r"\S", "x", found[0].replace(" ", "x")), text)
    found = [parse_query(text, engine) for engine in ENGINE_NAMES]
    understood = [parts for parts in found if parts.is_understood] or found
    problems = [_problem(model, parts, is_source=is_source) for parts in understood]
    return problems[0] if all(problems) else None


def _problem(model: ModelConfig, parts: QueryParts, *, is_source: bool = True) -> str | None:
    if parts.statements == 0:
        return "the query is empty; write one SELECT statement"
    if parts.statements > 1:
        return "a query is one statement, but text follows its ';'; keep one statement"
    if not parts.is_query:
        return (
            f"a query must be a SELECT, found {parts.verb}; write the SELECT itself, or run this statement "
            "in "
            "a separate job and select from the table that it fills"
        )
    chooses = next(_settings_that_choose(model), None) if is_source else None
    if parts.limit is not None and chooses is not None:
        return (
            f"{parts.limit.text!r} cuts off rows before {chooses} chooses among them, so some would never be "
            "read; remove it or that setting; `mlops dispatch --limit` and a run's row limit apply afterwards"
        )
    if parts.nested_limit is not None and chooses is not None:
        return (
            f"{parts.nested_limit!r} in a subquery cuts off rows before {chooses} chooses among them, so "
            "some would never be read; remove it or that setting; if you want only these rows, put the "
            "subquery into a view"
        )
    return None


def _settings_that_choose(model: ModelConfig) -> Iterator[str]:
    source = model.source
    for name in ("cursor", "skip_predicted", "partitions", "pages"):
        if getattr(source, name):
            yield f"source.{name}"


def _wrong_predicates(model: ModelConfig, engine: str) -> Iterator[str]:
    partitions = model.source.partitions
    for predicate in (partitions.predicates or ()) if partitions is not None else ():
        if parse_query(f"SELECT 1 WHERE (\n{predicate}\n)", engine).statements != 1:
            yield f"the predicate {predicate!r} of source.partitions is not one SQL condition"
