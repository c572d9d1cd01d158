"""Which dispatch a what-if goes on with: changes that follow each other soon are one, not hundreds."""

from __future__ import annotations

from datetime import timedelta

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.events.details.step_reports import CollectReport
from mlops_plugin.events.records import DispatchRecord
from mlops_plugin.events.store import EventStore
from mlops_plugin.serving.case_values import text_of
from mlops_plugin.serving.wanted import Wanted

_WITHIN = timedelta(minutes=1)  # since the last change
_MOST_TRIES = 300  # of a dispatch, so that its page can be read


def continued(
    store: EventStore, model: ModelConfig, wanted: Wanted, user: str | None
) -> DispatchRecord | None:
    """The what-if that `wanted` names, if it is this user's, about this case, and ended within a minute."""
    known = store.get(wanted.continues) if wanted.continues and wanted.is_what_if else None
    if known is None or known.finished_at is None or known.tries >= _MOST_TRIES:
        return None
    is_theirs = (known.model, known.origin, known.requested_by) == (model.name, "showroom", user)
    if not is_theirs or store.now() - known.finished_at > _WITHIN:
        return None
    keys = tuple(tuple(map(text_of, key)) for key in wanted.keys)
    events = store.events(known.dispatch_id)
    asked = [event.details for event in events if isinstance(event.details, CollectReport)]
    is_same = bool(asked) and asked[-1].keys == keys and bool(asked[-1].changes or asked[-1].curve)
    return known if is_same else None
