"""What each step reports when it is done: recorded with its end, shown to people, and Airflow's XCom.

`to_json` is the one writer of each report; `serialization.read_details` reads it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal

from mlops_plugin.events.details.explanations import Explanation

CursorKind = Literal["integer", "date", "timestamp", "timestamp with time zone"]


@dataclass(frozen=True)
class NumberedPartition:
    """A partition of a dispatch; numbers start from 0."""

    number: int
    name: str


@dataclass(frozen=True)
class PlanReport:
    """The partitions, in order."""

    partitions: tuple[NumberedPartition, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> PlanReport:
        return cls(tuple(NumberedPartition(number, name) for number, name in enumerate(names)))

    @property
    def rows(self) -> None:
        """Planning handles no rows."""
        return None

    def to_json(self) -> dict[str, Any]:
        return {"rows": None, **as_json(self)}


@dataclass(frozen=True)
class MarkScope:
    """The rows that a watermark is about: those of `tables` (none: unknown) on connection `source`.

    Their predictions are in `sink_table` on connection `sink`.
    """

    source: str
    tables: tuple[str, ...]
    sink: str
    sink_table: str


@dataclass(frozen=True)
class IncrementRead:
    """The range of the cursor that was read, from `first` to `greatest`, and what was left out of it.

    Values are texts of type `kind` (`reading.cursor_values.serialize`); None if there was no such value.
    `generation` is that of the watermark at which the dispatch began.
    """

    column: str | None = None
    kind: CursorKind | None = None
    first: str | None = None
    greatest: str | None = None
    generation: int = 0
    skipped_artifact: str | None = None  # rows with a prediction by this artifact were left out
    skipped_answers: str | None = None  # and by settings with this hash; None in earlier versions
    scope: MarkScope | None = None  # None: there is no cursor, or an earlier version has read
    holds_instants: bool | None = None  # of times without a zone; None: no rows, or an earlier version


@dataclass(frozen=True)
class Explained:
    """How a Showroom run explained a case: where its usual values came from, and the features it replaced."""

    references: str
    features: tuple[str, ...]


@dataclass(frozen=True)
class CollectReport:
    """`partition` is its name. Of a Showroom run, what was asked: `keys`, `changes`, `curve`, and `why`."""

    rows: int
    partition: str | None = None
    keys: tuple[tuple[str, ...], ...] | None = None
    changes: Mapping[str, Any] | None = None  # feature -> the value to try
    curve: str | None = None  # the feature that took a range of values
    why: Explained | None = None
    increment: IncrementRead | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in as_json(self).items() if value is not None}


@dataclass(frozen=True)
class RegisteredVersion:
    """The version of a registered model that a dispatch uses; `alias` is the one that led to it, if any."""

    name: str
    version: str
    alias: str | None = None
    run_id: str | None = None


@dataclass(frozen=True)
class LogReport:
    """What the later steps are held to."""

    rows: int
    artifact_sha256: str
    config_sha256: str
    signature_sha256: str | None = None  # of the signature beside the artifact, if there is one
    registered: RegisteredVersion | None = None  # if the model is in a registry

    def to_json(self) -> dict[str, Any]:
        found = as_json(self)
        return {name: value for name, value in found.items() if (name, value) != ("registered", None)}


@dataclass(frozen=True)
class ReasonCount:
    """Why rows were rejected, and how many; `column` is None for the row as a whole."""

    column: str | None
    reason: str
    rows: int


@dataclass(frozen=True)
class ClassCounts:
    """How often each class was predicted, by name; `others`: further classes; `missing`: no value."""

    counts: tuple[tuple[str, int], ...]
    others: int = 0
    missing: int = 0
    kind: Literal["classes"] = "classes"


@dataclass(frozen=True)
class NumberCounts:
    """Predicted numbers by bin: the n-th of `counts` is for bin `first` + n.

    Bin k holds k * 2**exponent <= value < (k + 1) * 2**exponent. `missing`: NULL, NaN and infinite values.
    `low`, `mean` and `high` are None without values; `mean` also if their sum is infinite.
    """

    counts: tuple[int, ...]
    exponent: int
    first: int
    low: float | None = None
    mean: float | None = None
    high: float | None = None
    missing: int = 0
    kind: Literal["numbers"] = "numbers"


Counts = ClassCounts | NumberCounts


@dataclass(frozen=True)
class InferReport:
    """Of one partition, or of all rows. Earlier versions did not record everything: hence the defaults."""

    rows: int
    rows_rejected: int = 0
    reasons: tuple[ReasonCount, ...] = ()
    imputed: Mapping[str, int] = field(default_factory=dict)  # column -> values replaced
    distribution: Counts | None = None  # of the (first) prediction, see pipeline.distribution
    libraries: Mapping[str, str] = field(default_factory=dict)  # versions of those that predicted, and Python

    def to_json(self) -> dict[str, Any]:
        return as_json(self)


@dataclass(frozen=True)
class Accounts:
    """Rows of a whole dispatch.

    They add up: collected = predicted + rejected, predicted = persisted + superseded. `superseded` counts the
    predictions that were left out because the table holds others that count.
    """

    collected: int
    predicted: int
    rejected: int
    persisted: int
    superseded: int = 0


@dataclass(frozen=True)
class Place:
    """Where predictions went: a table, or (`shown`: how many) a person's browser.

    `explanation`: what a Showroom run that explains a case has found.
    """

    connection: str | None = None
    table: str | None = None
    overwrites_newer: bool = False
    shown: int | None = None
    explanation: Explanation | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in as_json(self).items() if value not in (None, False)}


@dataclass(frozen=True)
class PersistReport:
    """`mark`: the new watermark, as text."""

    accounts: Accounts
    place: Place
    mark: str | None = None

    @property
    def rows(self) -> int:
        return self.accounts.persisted

    def to_json(self) -> dict[str, Any]:
        mark = {} if self.mark is None else {"mark": self.mark}
        superseded = {"rows_superseded": self.accounts.superseded}  # the name of the dispatch's column
        return {"rows": self.rows, **vars(self.accounts), **superseded, **self.place.to_json(), **mark}


def as_json(record: object) -> dict[str, Any]:
    """A record as JSON has it: no tuples, which Airflow would store as such in XCom."""
    return {name: _as_json(value) for name, value in vars(record).items()}


def _as_json(value: Any) -> Any:
    if is_dataclass(value):
        return as_json(value)
    if isinstance(value, tuple):
        return [_as_json(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


StepReport = PlanReport | CollectReport | LogReport | InferReport | PersistReport
