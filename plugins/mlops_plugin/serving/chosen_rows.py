"""The source of a Showroom run: chosen cases of the model, or rows of a request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.selection import shown
from mlops_plugin.events.details.step_reports import CollectReport, Explained
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.reading.increment import Increment
from mlops_plugin.pipeline.reading.partitions import Partition
from mlops_plugin.pipeline.step_runner import Models
from mlops_plugin.pipeline.validation.contract import Contract
from mlops_plugin.serving.case_queries import CaseQueries
from mlops_plugin.serving.explanation import References, references_of, replaced_rows
from mlops_plugin.serving.wanted import ROWS_GIVEN, Wanted, changed_rows, given_rows


@dataclass(frozen=True)
class ChosenRows:
    """The rows of one run, in memory, with what was asked and the statement that found them."""

    wanted: Wanted
    query: str
    table: pa.Table
    references: References | None = None  # of a run that explains

    @property
    def increment(self) -> Increment | None:
        return None

    def reads_beside_writes(self) -> bool:
        """Its steps run in turn: a few rows are read at once."""
        return False

    def describe(self) -> ChosenRows:
        return self

    @property
    def sql(self) -> str:
        if self.references is None:
            return self.query
        return f"{self.query}\n-- why: the case, then with one feature at a time {self.references}"

    def report(self, rows: int) -> CollectReport:
        """What the record of `collect` keeps of the rows."""
        report = self.wanted.report(rows)
        if self.references is None:
            return report
        return replace(report, why=Explained(self.references.origin, tuple(self.references.usual)))

    def rows(self) -> pa.RecordBatchReader:
        return self.table.to_reader()


class ChosenSource:
    """Finds what a run asks for; `chosen` is what it found."""

    def __init__(
        self,
        model: ModelConfig,
        wanted: Wanted,
        deployment: Deployment,
        models: Models,
        case_queries: CaseQueries,
    ) -> None:
        self._model = model
        self._wanted = wanted
        self._deployment = deployment
        self._models = models
        self._case_queries = case_queries
        self.chosen: ChosenRows | None = None

    def plan(self) -> tuple[str, Sequence[Partition]]:
        raise NotImplementedError("a Showroom run has no partitions")

    @contextlib.contextmanager
    def open(self, partition: Partition) -> Iterator[ChosenRows]:  # noqa: ARG002 - of the protocol
        """Read the rows. Raises `CaseError` if a case does not exist, or the rows make no table."""
        self.chosen = self._with_changes(self._cases() if self._wanted.keys else self._given())
        yield self.chosen

    def _given(self) -> ChosenRows:
        rows = self._wanted.table
        if rows is None:
            rows = given_rows(self._model, self._wanted.rows, self._read_columns).read_all()
        return ChosenRows(self._wanted, ROWS_GIVEN, rows)

    def _read_columns(self) -> set[str]:
        """The columns that the model or its contract reads."""
        contract = Contract.of(self._model)
        with self._models.runtime(self._model) as runtime:
            return {*runtime.features, *(contract.rules if contract else ())}

    def _cases(self) -> ChosenRows:
        with self._case_queries.open(self._model, self._deployment) as cases:
            query = shown(*cases.chosen_query(self._wanted.keys))
            rows = cases.chosen(self._wanted.keys).read_all()
            if not self._wanted.is_why:
                return ChosenRows(self._wanted, query, rows)
            with self._models.runtime(self._model) as runtime:
                references = references_of(self._model, runtime, cases)
            return ChosenRows(self._wanted, query, replaced_rows(rows, references), references)

    def _with_changes(self, chosen: ChosenRows) -> ChosenRows:
        if not self._wanted.changes:
            return chosen
        rows = changed_rows(chosen.table, self._wanted.changes)
        return ChosenRows(self._wanted, chosen.query, rows, chosen.references)
