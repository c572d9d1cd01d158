"""Of which rows a watermark tells: a name that is used again must not silently go on from an old mark.

`increment` compares the scope of the dispatch that moved the mark with that of the model as it is now.
"""

from __future__ import annotations

import re
from dataclasses import replace

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.events.details.step_reports import CollectReport, MarkScope
from mlops_plugin.events.marks import Watermark
from mlops_plugin.events.store import EventStore

_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)


def scope_of(model: ModelConfig) -> MarkScope:
    """What the model's watermark tells of: the tables of its query, and where their predictions go."""
    source, sink = model.source, model.sink
    return MarkScope(
        source.connection, _tables(source.query), sink.connection, sink.table.replace('"', "").casefold()
    )


def foreign_scope(store: EventStore, mark: Watermark | None, ours: MarkScope | None) -> MarkScope | None:
    """The scope of a mark that tells of other rows than `ours`, or of predictions in another table.

    None also for a mark that somebody has set, and if a dispatch of an earlier version is concerned.
    """
    if mark is None or mark.dispatch_id is None or ours is None:
        return None
    for event in store.events(mark.dispatch_id):
        increment = event.details.increment if isinstance(event.details, CollectReport) else None
        # Any: a run that was cleared has collected for each of them.
        if increment is not None and is_foreign(increment.scope, ours):
            return increment.scope
    return None


def is_foreign(scope: MarkScope | None, ours: MarkScope) -> bool:
    """Whether a dispatch of this scope has read other rows, or written them elsewhere.

    Queries with a table in common are the same one, changed.
    """
    if scope is None:
        return False
    are_apart = bool(scope.tables and ours.tables) and not {*scope.tables} & {*ours.tables}
    return are_apart or replace(scope, tables=()) != replace(ours, tables=())


def scope_words(scope: MarkScope) -> str:
    """A scope for people."""
    tables = f" ({', '.join(scope.tables)})" if scope.tables else ""
    return f"connection '{scope.source}'{tables} with predictions in {scope.sink_table} of '{scope.sink}'"


def _tables(query: str) -> tuple[str, ...]:
    """The tables of a query as the configuration has it; none if a parser cannot tell.

    In the first dialect that understands it, since the engine need not be asked for that.
    """
    if "{%" in query:  # which parts there are depends on the moment
        return ()
    from mlops_plugin.databases.engines.registry import ENGINE_NAMES
    from mlops_plugin.databases.query_parts import parse_query  # it loads the SQL parser

    text = _EXPRESSION.sub(lambda found: "x" if found[0].startswith("{{") else " ", query)
    parts = (parse_query(text, engine) for engine in ENGINE_NAMES)
    return next((found.tables for found in parts if found.is_understood), ())
