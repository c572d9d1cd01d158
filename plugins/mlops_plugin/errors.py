"""Every error that this project raises on purpose, in one hierarchy.

Each message says what failed, where, what was found and what to do. It never holds a password: the
connection id stands for the connection, and what a driver or a library quotes is masked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlops_plugin.masking import masked

# All but the tab and the ends of lines. A terminal obeys some: to clear it, or to fill the clipboard.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")


def printable(text: str) -> str:
    """The text with control characters as `\\x1b`: a file or a row that it quotes may hold some."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class MlopsError(Exception):
    """Root of the hierarchy; `str()` of it may be shown to an operator."""

    # Whether a retry fails in the same way until a person changes something.
    is_final: ClassVar[bool] = False

    def __str__(self) -> str:
        # Here, and not where it was raised: a secret may have become known since.
        return printable(masked(super().__str__()))


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a configuration file."""

    file: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        text = f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"
        return printable(masked(text))


class ConfigError(MlopsError):
    """The configuration is invalid; carries every problem found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnknownModel(ConfigError):
    """The configuration has no model of that name."""


class BrokenModel(ConfigError):
    """The configuration's entry of one model is invalid."""


class EntryError(MlopsError):
    """A new model's entry cannot be proposed, or not be written into the configuration."""


class TemplateError(MlopsError):
    """A query's template cannot be rendered."""


class TemplateMistake(TemplateError):
    """The template itself is invalid, whatever Airflow's variables and connections hold."""

    is_final = True


class EmptyInterval(TemplateError):
    """A query or a cursor reads a data interval, and the one of this run has no length."""

    is_final = True


class ConnectionUnusable(MlopsError):
    """An Airflow connection does not exist or lacks what its type needs."""


class InstalledTwice(MlopsError):
    """Two copies of this package are installed, and only one of them runs."""


class DriverMissing(MlopsError):
    """A library or database driver is not installed; the message names what to install."""


class EnvironmentUnusable(DriverMissing):
    """A model's own environment is not there, or cannot be built."""


class DatabaseError(MlopsError):
    """A database refused; carries the connection id and the driver's own words."""

    def __init__(self, conn_id: str, doing: str, driver_says: str) -> None:
        self.conn_id = conn_id
        self.doing = doing
        # On one line: records keep only an error's first line, and drivers put facts on later ones.
        self.driver_says = driver_says = " ".join(driver_says.split())
        super().__init__(f"connection '{conn_id}': {doing} failed: {driver_says}")


class ServerSilent(DatabaseError):
    """A server has not answered within the limit of a wait; its connection was given up."""


class CommitUncertain(DatabaseError):
    """The connection broke while a commit was answered: the database may have committed or not."""


class UnsupportedType(MlopsError):
    """A column's type would not arrive as it is stored; the message names column, type and a cast."""


class QueryError(MlopsError):
    """A query cannot be used as the configuration wants it; the message says what to write."""

    is_final = True


class PartitionError(MlopsError):
    """A query's rows cannot be partitioned as configured."""

    is_final = True


class SinkError(MlopsError):
    """The predictions table does not match the configuration."""


class LimitRefused(SinkError):
    """A dispatch of some of the rows would replace the whole table."""

    is_final = True


class PredictionsGone(SinkError):
    """The sink no longer has what the watermark counts as predicted."""

    is_final = True


class StaleTry(SinkError):
    """A newer try of the same dispatch has written the sink already."""


class KeyColumnError(MlopsError):
    """Key columns are missing, NULL or not unique."""


class KeyColumnMissing(KeyColumnError):
    """The query does not return a key column."""

    is_final = True


class CursorError(MlopsError):
    """The cursor column or its watermark is invalid."""


class ArtifactError(MlopsError):
    """A model file is missing, altered, incompatible, or not a model."""


class ArtifactChanged(ArtifactError):
    """A model file differs from the one that the configuration or the dispatch pinned."""

    is_final = True


class RegistryError(ArtifactError):
    """A model registry refuses, does not answer, or has no such version."""


class UntrustedTypes(ArtifactError):
    """A skops file holds types that the configuration does not trust; the message lists them."""


class AnswersOfNeighbours(ArtifactError):
    """A model answers about a row by the rows that happen to be beside it, and no signature says so."""

    is_final = True


class SignatureError(ArtifactError):
    """A model's signature is missing, unreadable, or was made for another artifact."""


class GoldenRowMismatch(ArtifactError):
    """The model no longer answers its golden rows as it did where it was trained."""

    is_final = True


class InputUndecided(ArtifactError):
    """A model's answers depend on the type of a column, and nothing tells which type training had."""

    is_final = True


class FeatureError(MlopsError):
    """The rows do not have the features that the model expects."""

    is_final = True


class ContractError(MlopsError):
    """`input:` or `output:` does not fit these columns, or ends the dispatch."""

    is_final = True


class BaselineUnreadable(ContractError):
    """A contract's baseline cannot be opened now."""

    is_final = False


class ThresholdError(MlopsError):
    """More rows were rejected than `error_threshold` allows."""

    is_final = True


class StagingError(MlopsError):
    """Rows handed from one step to the next are missing or damaged."""


class StagingOutdated(StagingError):
    """Staged rows do not belong together, or no longer to the configuration; steps must be cleared."""

    is_final = True


class DispatchesOverlap(MlopsError):
    """Dispatches of a model begin so often that nobody can tell which has read last."""


class EventStoreError(MlopsError):
    """The event store is missing or out of date, or it refuses a request."""


class TrySuperseded(MlopsError):
    """A newer try of a step, or of a step before it, has started: this one may change nothing more."""


class StepInterrupted(MlopsError):
    """A step was stopped from outside before it finished."""


class StepEnded(MlopsError):
    """A step was given up because another one of its dispatch, which ran at the same time, has failed."""


class RowsLate(MlopsError):
    """Rows that another step makes come too slowly for a transaction to wait for them."""


class AccountingError(MlopsError):
    """Rows do not add up: collected, predicted and persisted disagree."""


class ServingError(MlopsError):
    """A model's process hung, died, or exceeded its limits."""


class ServingBusy(ServingError):
    """Others ask for more than is served at once; the same request may succeed after `retry_after_s`."""

    retry_after_s: ClassVar[int] = 5


class CaseError(MlopsError):
    """A request to the Showroom names a case, column or value that does not exist."""


class NotifierUnusable(MlopsError):
    """A notifier of the configuration cannot be imported or made."""
