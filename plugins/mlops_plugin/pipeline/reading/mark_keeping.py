"""Shows and sets a model's watermark for people; `mlops cursor` and the Dispatches view call it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from mlops_plugin.config.schema import CursorConfig, ModelConfig
from mlops_plugin.errors import CursorError
from mlops_plugin.events.marks import Watermark, newest_mark, set_mark
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.reading.cursor_values import kind_of, parse_input, serialize
from mlops_plugin.pipeline.reading.increment import check_column, cursor_path
from mlops_plugin.pipeline.reading.mark_scope import foreign_scope, scope_of
from mlops_plugin.sentences import Sentence


def cursor_of(model: ModelConfig) -> CursorConfig:
    """The model's cursor. Raises `CursorError` if it has none."""
    if model.source.cursor is None:
        raise CursorError(
            f"models.{model.name}: it has no source.cursor: each dispatch reads all rows of its query, and "
            "there is no watermark"
        )
    return model.source.cursor


def set_by_hand(
    model: ModelConfig,
    deployment: Deployment,
    text: str | None,
    *,
    render: Callable[[ModelConfig], str],
    user: str | None,
) -> Watermark:
    """Set the mark to the value in `text`, or with None back to `initial`; the event store keeps who did it.

    Raises `CursorError` if the value does not fit the column in the source.
    """
    cursor = cursor_of(model)
    value = None
    if text is not None:
        database = deployment.source(model)
        with contextlib.closing(database):
            columns = database.describe(render(model))
            column = check_column(model, cursor, columns, database.engine)
        value = parse_input(f"{cursor_path(model)}: --set", text, column)
    with deployment.event_store() as store:
        return set_mark(
            store,
            model.name,
            cursor.column,
            None if value is None else serialize(value),
            None if value is None else kind_of(value),
            user,
        )


def newest_mark_words(model: ModelConfig, store: EventStore) -> Sentence:
    """The model's current mark in a sentence, for people."""
    mark = newest_mark(store, model.name)
    is_foreign = foreign_scope(store, mark, scope_of(model)) is not None
    return mark_words(model, mark, is_foreign=is_foreign)


def mark_words(model: ModelConfig, mark: Watermark | None, *, is_foreign: bool = False) -> Sentence:
    """A mark in a sentence, for people; `mark` is None before the first one.

    `is_foreign`: it has another scope than the model now (`mark_scope`).
    """
    cursor = cursor_of(model)
    start = Sentence("the first row") if cursor.initial is None else str(cursor.initial)
    known: dict[str, object] = {"column": cursor.column, "start": start}
    if mark is None:
        return Sentence("%(column)s: no watermark yet; the first dispatch starts at %(start)s", **known)
    if mark.cursor_column != cursor.column:
        return Sentence(
            "%(column)s: no watermark yet, the last one is of column %(other)s; the next dispatch starts at "
            "%(start)s",
            other=mark.cursor_column,
            **known,
        )
    if is_foreign and mark.value is not None:
        return Sentence(
            "%(column)s: the watermark %(value)s is of another source or sink; dispatches fail until "
            "mlops cursor sets or resets it",
            value=mark.value,
            **known,
        )
    who = (
        Sentence("set by %(user)s", user=mark.set_by)
        if mark.dispatch_id is None
        else Sentence("by dispatch %(id)s", id=mark.dispatch_id)
    )
    known |= {"column": mark.cursor_column, "at": f"{mark.at:%Y-%m-%d %H:%M:%S} UTC", "who": who}
    if mark.value is None:
        return Sentence(
            "%(column)s: the next dispatch starts again at %(start)s, since %(at)s, %(who)s", **known
        )
    return Sentence("%(column)s: read up to %(value)s, since %(at)s, %(who)s", value=mark.value, **known)
