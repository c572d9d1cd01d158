"""Whether a dispatch's rows add up, once they are in the sink."""

from __future__ import annotations

from collections.abc import Sequence

from mlops_plugin.databases.sink.write_request import Written
from mlops_plugin.errors import AccountingError
from mlops_plugin.events.details.step_reports import Accounts
from mlops_plugin.pipeline.dispatch import Dispatch
from mlops_plugin.pipeline.staging.records import Logged, Persisted, Predicted


def accounted(
    dispatch: Dispatch, logged: Logged, predicted: Sequence[Predicted], written: Written, *, is_stored: bool
) -> Persisted:
    """What was persisted; raises `AccountingError` if the rows do not add up."""
    collected, rejected = (sum(part.rows for part in logged.parts), sum(part.rejected for part in predicted))
    count = sum(part.rows for part in predicted)
    accounts = Accounts(collected, count, rejected, written.persisted, written.superseded)
    _require_closed(dispatch, accounts, is_stored=is_stored)
    return Persisted(tuple(part.file for part in predicted), accounts)


def _require_closed(dispatch: Dispatch, accounts: Accounts, *, is_stored: bool) -> None:
    model = dispatch.model
    is_closed = accounts.collected == accounts.predicted + accounts.rejected
    if is_closed and (not is_stored or accounts.predicted == accounts.persisted + accounts.superseded):
        return
    raise AccountingError(
        f"models.{model.name}: rows do not add up: {accounts.collected} collected, "
        f"{accounts.predicted} predicted, {accounts.rejected} rejected, {accounts.persisted} in "
        f"{model.sink.table} (connection '{model.sink.connection}'), {accounts.superseded} superseded; clear "
        "'collect' and the tasks after it in Airflow to dispatch again"
    )
