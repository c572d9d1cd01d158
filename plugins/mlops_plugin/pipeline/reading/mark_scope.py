"""Which rows a watermark is about: a name that is used again must not silently go on from an old mark.

`increment` compares the scope of the dispatch that moved the mark with that of the model as it is now.
"""

from __future__ import annotations

import re

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.events.details.step_reports import CollectReport, IncrementRead, MarkScope
from mlops_plugin.events.marks import Watermark
from mlops_plugin.events.store import EventStore
from mlops_plugin.masking import MASK

_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)


def scope_of(model: ModelConfig) -> MarkScope:
    """What the model's watermark is about: the tables of its query, and where their predictions go."""
    source, sink = model.source, model.sink
    return MarkScope(
        source.connection, _tables(source.query), sink.connection, sink.table.replace('"', "").casefold()
    )


def foreign_scope(store: EventStore, mark: Watermark | None, ours: MarkScope) -> MarkScope | None:
    """The scope of a mark if it is about other rows than `ours`, or about predictions in another table.

    None also for a mark that somebody has set, and for one that a dispatch of an earlier version has moved.
    """
    return scope_if_foreign(read_up_to(store, mark), ours)


def scope_if_foreign(read: IncrementRead | None, ours: MarkScope) -> MarkScope | None:
    """The same, by what `read_up_to` returns for the mark."""
    scope = None if read is None else read.scope
    return scope if is_foreign(scope, ours) else None


def read_up_to(store: EventStore, mark: Watermark | None) -> IncrementRead | None:
    """What the dispatch that moved a mark had read by then; None if somebody has set it."""
    if mark is None or mark.dispatch_id is None:
        return None
    reports = (event.details for event in store.events(mark.dispatch_id))
    read = [one.increment for one in reports if isinstance(one, CollectReport) and one.increment is not None]
    # A run that is cleared collects again, for another scope or of a changed column, and may leave the mark.
    moved = [one for one in read if (one.greatest, one.generation) == (mark.value, mark.generation)]
    return next(reversed(moved or read), None)


def is_foreign(scope: MarkScope | None, ours: MarkScope) -> bool:
    """Whether a dispatch of this scope has read other rows, or written them elsewhere.

    Queries with a table in common are the same one, changed. What the event store has masked is not known.
    """
    if scope is None:
        return False
    connections = ((scope.source, ours.source), (scope.sink, ours.sink))
    if not all(MASK in theirs or theirs == mine for theirs, mine in connections):
        return True
    if not _may_be_same(scope.sink_table, ours.sink_table):
        return True
    tables = [_may_be_same(theirs, mine) for theirs in scope.tables for mine in ours.tables]
    return bool(tables) and not any(tables)


def times_differ(before: bool | None, now: bool | None) -> bool:
    """Whether a column held instants before and does not now, or the reverse; None: unknown."""
    return None not in (before, now) and before != now


def zone_words(holds_instants: bool | None) -> str:
    """What a column's times are, for people."""
    return "instants in UTC (TIMESTAMP)" if holds_instants else "without a zone (DATETIME)"


def _may_be_same(theirs: str, ours: str) -> bool:
    """Whether two names may be those of one table, which may be named with its schema or without."""
    return MASK in theirs or theirs == ours or theirs.endswith(f".{ours}") or ours.endswith(f".{theirs}")


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
