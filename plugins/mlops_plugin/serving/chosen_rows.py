"""The source of a Showroom run: chosen cases of the model, or rows of a request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.databases.selection import shown
from mlops_plugin.errors import CaseError
from mlops_plugin.events.details.step_reports import CollectReport, Explained
from mlops_plugin.formats.registry.registered_models import of_version
from mlops_plugin.formats.signature.signature import read_signature
from mlops_plugin.pipeline.deployment import Deployment
from mlops_plugin.pipeline.reading.increment import Increment
from mlops_plugin.pipeline.reading.partitions import Partition
from mlops_plugin.pipeline.step_runner import Models
from mlops_plugin.pipeline.validation.contract import Contract
from mlops_plugin.pipeline.validation.learning import admitting
from mlops_plugin.serving.case_queries import CaseQueries
from mlops_plugin.serving.curves import curve_rows
from mlops_plugin.serving.explanation import Question, question_about
from mlops_plugin.serving.references import references_of
from mlops_plugin.serving.wanted import ROWS_GIVEN, Wanted, changed_rows, given_rows


@dataclass(frozen=True)
class ChosenRows:
    """The rows of one run, in memory, with what was asked and the statement that found them."""

    wanted: Wanted
    query: str
    table: pa.Table
    question: Question | None = None  # of a run that explains
    on_curve: int = 0  # how many of the rows, the last ones, make a curve
    are_alone: bool = False  # each is asked about by itself

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
        if self.on_curve and self.wanted.curve:
            return f"{self.query}\n-- what if: {self.on_curve} values of {self.wanted.curve.feature}"
        if self.question is None:
            return self.query
        read = f"{self.query}\n-- why: the case, then with one feature at a time {self.question.references}"
        return read if self.question.mixtures is None else f"{read}, then with mixtures of both"

    def report(self, rows: int) -> CollectReport:
        """What the record of `collect` keeps of the rows."""
        report = self.wanted.report(rows)
        if self.question is None:
            return report
        references = self.question.references
        return replace(report, why=Explained(references.origin, tuple(references.usual)))

    def rows(self) -> pa.RecordBatchReader:
        return self.table.to_reader(max_chunksize=1 if self.are_alone else None)


class ChosenSource:
    """Finds what a run asks for; `chosen` is what it found."""

    def __init__(
        self,
        model: ModelConfig,
        wanted: Wanted,
        deployment: Deployment,
        models: Models,
        case_queries: CaseQueries,
        patience_s: float,
    ) -> None:
        self._model = model
        self._wanted = wanted
        self._deployment = deployment
        self._models = models
        self._case_queries = case_queries
        self._patience_s = patience_s  # with the model, for an explanation
        self.chosen: ChosenRows | None = None

    @property
    def question(self) -> Question | None:
        """What a run that explains asks, once its rows are chosen."""
        return None if self.chosen is None else self.chosen.question

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
            if self._compares_rows():
                raise CaseError(
                    f"models.{self._model.name}: by its signature, the model's answer to a row depends on "
                    "the rows beside it: no case can be explained by itself"
                )
            with self._models.runtime(self._model) as runtime:
                references = references_of(self._model, runtime, cases)
                admit = admitting(self._model, rows.schema)
                question = question_about(rows, references, runtime, admit, patience_s=self._patience_s)
            return ChosenRows(self._wanted, query, question.rows, question)

    def _compares_rows(self) -> bool:
        """Whether a signature says so of the model."""
        model = self._model
        if model.model.is_registered:
            model = of_version(model, self._models.pin(model, None))
        signature = read_signature(model.model)
        return signature is not None and signature.compares_rows

    def _with_changes(self, chosen: ChosenRows) -> ChosenRows:
        wanted = self._wanted
        if not wanted.is_what_if:
            return chosen
        rows = changed_rows(chosen.table, wanted.changes)
        # Else it would compare a case with what might have been.
        chosen = replace(chosen, are_alone=self._compares_rows())
        if wanted.curve is None:
            return replace(chosen, table=rows)
        if chosen.table.num_rows != 1:
            raise CaseError("a curve is drawn of one case; choose one")
        curve = curve_rows(rows.slice(1), wanted.curve)
        return replace(chosen, table=pa.concat_tables([rows, curve]), on_curve=curve.num_rows)
