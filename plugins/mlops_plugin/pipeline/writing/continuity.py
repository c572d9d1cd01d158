"""Whether a sink still has what the watermark counts as predicted: else rows would be in no table.

A dispatch with a cursor reads only the rows behind the watermark. If its sink was dropped, restored from a
backup or exchanged for another database, the predictions of all rows before are gone.
"""

from __future__ import annotations

from mlops_plugin.events.marks import mark_history
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.dispatch import Dispatch

_MARKS = 100


def dispatches_before(dispatch: Dispatch, store: EventStore) -> tuple[str, ...]:
    """The dispatches that moved the watermark behind which this one has read, newest first.

    Empty if the sink needs to hold nothing: this one reads all rows, somebody has set the watermark, or the
    one that moved it last has written no row. Raises `EventStoreError`.
    """
    model = dispatch.model
    if not dispatch.reads_from_mark or model.source.cursor is None:
        return ()
    marks = mark_history(store, model.name, limit=_MARKS)
    if not marks or marks[0].dispatch_id is None or marks[0].cursor_column != model.source.cursor.column:
        return ()
    last = store.get(marks[0].dispatch_id)
    if last is None or last.dispatch_id == dispatch.id or not last.rows_persisted:
        return ()
    return tuple(mark.dispatch_id for mark in marks if mark.dispatch_id is not None)
