"""Dispatches that answered by other settings of their model: what they predicted is predicted once more.

`not_predicted` asks for them before it leaves out rows, `writer` before it deletes rows in mode append.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlops_plugin.databases.database import read_rows
from mlops_plugin.databases.sink.dispatches_table import DispatchesTable


@dataclass(frozen=True)
class OtherAnswers:
    """Dispatches whose `answered_by`, a hash of the settings, differs from the present one.

    `counts_unrecorded`: dispatches without a recorded hash have the present settings.
    """

    dispatches: DispatchesTable
    answered_by: str
    counts_unrecorded: bool

    @property
    def parameters(self) -> tuple[str, str]:
        """Of `of_owner`."""
        return self.dispatches.sink_table, self.answered_by

    def of_owner(self, owner: str) -> str:
        """The condition that a row's `owner` (quoted), a dispatch, is one of them."""
        engine = self.dispatches.database.engine
        columns = ("sink_table", "dispatch_id", "answered_by")
        table, dispatch, by = (f"j.{engine.quote(name)}" for name in columns)
        is_same = f"{dispatch} = {engine.as_text(owner)}"  # the user's column may be a UUID
        is_other = f"NOT ({self.is_same(by)})"
        return (
            f"EXISTS (SELECT 1 FROM {self.dispatches.name} j WHERE {table} = ? AND {is_same} AND {is_other})"
        )

    def is_same(self, column: str) -> str:
        """The condition that a column (quoted) holds the present hash; its parameter is `answered_by`."""
        return f"COALESCE({column}, '{self.answered_by if self.counts_unrecorded else ''}') = ?"


def find_other_answers(
    dispatches: DispatchesTable, model: str, artifact_sha256: str, answered_by: str
) -> OtherAnswers | None:
    """The dispatches of a model and artifact that answered by other settings; None: there are none.

    The table has `answered_by`. Dispatches of earlier versions recorded none, and count as of the first
    settings that were recorded. Raises `DatabaseError`, also without the right to read the table: the
    transaction is lost then.
    """
    quote = dispatches.database.engine.quote
    columns = ("sink_table", "model", "artifact_sha256", "answered_by", "id")
    table, of_model, artifact, by, identity = map(quote, columns)
    query = (
        f"SELECT {by} AS answers, MIN({identity}) AS first FROM {dispatches.name} WHERE {table} = ?"
        f" AND {of_model} = ? AND {artifact} = ? GROUP BY {by}"
    )
    found = read_rows(dispatches.database, query, [dispatches.sink_table, model, artifact_sha256])
    known = sorted((int(first), str(answers)) for answers, first in found if answers is not None)
    if all(answers == answered_by for _, answers in known):
        return None
    return OtherAnswers(dispatches, answered_by, counts_unrecorded=known[0][1] == answered_by)
