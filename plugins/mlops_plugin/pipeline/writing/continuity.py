"""Whether a sink still has what the watermark counts as predicted: else rows would be in no table.

A dispatch with a cursor reads only the rows behind the watermark. If its sink was dropped, restored from a
backup or exchanged for another database, the predictions of all rows before are gone.
"""

from __future__ import annotations

from mlops_plugin.events.marks import written_before
from mlops_plugin.events.store import EventStore
from mlops_plugin.pipeline.dispatch import Dispatch


def dispatch_before(dispatch: Dispatch, store: EventStore) -> str | None:
    """The dispatch behind whose rows this one has read, and which its sink must hold.

    None if this one reads all rows, or if somebody has decided where it starts. Raises `EventStoreError`.
    """
    cursor = dispatch.model.source.cursor
    if cursor is None or not dispatch.reads_from_mark:
        return None
    return written_before(store, dispatch.model.name, cursor.column, dispatch.id)
