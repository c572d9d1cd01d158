"""A model's `input:` against rows: `collect` and `mlops check` compare columns, `infer` checks each batch.

Own rules and those of a baseline become one `Contract`; bound to a schema it says, for every batch, which
values violate what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from mlops_plugin.arrow_values import as_doubles
from mlops_plugin.config.schema import ColumnContract, ModelConfig
from mlops_plugin.errors import ContractError
from mlops_plugin.pipeline.validation.baseline import Baseline, read_baseline, read_baseline_beside
from mlops_plugin.pipeline.validation.column_check import READABLE_AS, Violation, check_column, kind_of


@dataclass(frozen=True)
class CheckedBatch:
    """A batch after its check: `rows` has all of them, converted and imputed; `violations` reject some."""

    rows: pa.RecordBatch
    violations: list[Violation]
    imputed: dict[str, int]  # column -> values replaced


def baseline_in_use(model: ModelConfig) -> Baseline | None:
    """The baseline that the contract names, if it names one; raises `ContractError` without the file."""
    if model.input is None:
        return None
    if model.input.baseline is True:
        return read_baseline_beside(model.model.uri)
    uri = model.input.baseline_uri(model.model.uri)
    return None if uri is None else read_baseline(uri)


@dataclass(frozen=True)
class Contract:
    """What a model wants of its rows: one rule for each column, own ones and the baseline's together."""

    model: str
    rules: Mapping[str, ColumnContract]
    baseline: Baseline | None = None

    @classmethod
    def of(cls, model: ModelConfig) -> Contract | None:
        """The model's contract, None if it has none; raises `ContractError` for an unusable baseline."""
        if model.input is None:
            return None
        baseline = baseline_in_use(model)
        rules = dict(model.input.columns)
        for name, found in (baseline.features if baseline else {}).items():
            rules[name] = _merged(model.name, name, found.rule(), rules.get(name))
        return cls(model.name, rules, baseline)

    def bind(self, rows: pa.Schema) -> BoundContract:
        """The contract for rows of this schema; raises `ContractError` if a rule cannot apply to it."""
        missing = [name for name in self.rules if name not in rows.names]
        if missing:
            listed = ", ".join(_with_nearest(name, rows.names) for name in missing)
            raise ContractError(
                f"models.{self.model}.input: the query returns no column {listed}; it returns "
                f"{', '.join(rows.names)}; select it, or take it out of the contract"
            )
        for name, rule in self.rules.items():
            wrong = _misfit(rows.field(name).type, rule)
            if wrong:
                raise ContractError(f"models.{self.model}.input.columns.{name}: {wrong}")
        return BoundContract(self.model, self.rules)

    def require_made_for(self, artifact_sha256: str) -> None:
        """Raise `ContractError` if the baseline was made for another artifact."""
        made_for = self.baseline.artifact_sha256 if self.baseline else artifact_sha256
        if made_for != artifact_sha256:
            raise ContractError(
                f"models.{self.model}.input.baseline: it was made for another artifact (sha256 "
                f"{made_for[:12]}..., the model's is {artifact_sha256[:12]}...); make a new one: "
                f"mlops baseline {self.model}"
            )


@dataclass(frozen=True)
class BoundContract:
    """A contract whose columns are known to exist."""

    model: str
    rules: Mapping[str, ColumnContract]

    def check(self, batch: pa.RecordBatch) -> CheckedBatch:
        """Check one batch; raises `ContractError` for a violation of a column with `on_violation: fail`."""
        violations: list[Violation] = []
        imputed: dict[str, int] = {}
        for name, rule in self.rules.items():
            position = batch.schema.get_field_index(name)
            given = batch.column(position)
            values, found = check_column(name, given, rule)
            if rule.on_violation == "impute":  # also where it replaces nothing: all batches have one type
                values = _widened(values, rule.impute)
            if found and rule.on_violation == "impute":
                values, imputed[name] = _imputed(values, found, rule.impute)
            elif found and rule.on_violation == "fail":
                raise ContractError(self._failure(found, given, rule))
            else:
                violations += found
            if values is not given:
                batch = batch.set_column(position, pa.field(name, values.type), values)
        return CheckedBatch(batch, violations, imputed)

    def schema_of(self, rows: pa.Schema) -> pa.Schema:
        """The schema of checked rows: what is text in `rows` may be a number by then."""
        nothing: pa.Schema = self.check(pa.RecordBatch.from_pylist([], schema=rows)).rows.schema
        return nothing

    def _failure(self, found: list[Violation], given: pa.Array, rule: ColumnContract) -> str:
        facts = []
        for one in found:
            first = given[pc.index(one.rows, pa.scalar(True)).as_py()].as_py()
            count = one.rows.true_count
            facts.append(f"{one.reason} in {count} of {len(given)} rows, first {_short(first)}")
        return (
            f"models.{self.model}.input.columns.{found[0].column}: {'; '.join(facts)}; on_violation: "
            f"{rule.on_violation} fails the dispatch; correct the source, or reject or impute such values"
        )


def _merged(model: str, name: str, learned: Mapping[str, Any], own: ColumnContract | None) -> ColumnContract:
    """The baseline's rule with what the configuration says of the same column in its place."""
    declared = {} if own is None else {key: getattr(own, key) for key in own.model_fields_set}
    if declared.get("type") is not None and declared["type"] != learned.get("type"):
        learned = {key: value for key, value in learned.items() if key == "nullable"}
    if declared.get("allowed") is not None:
        learned = {key: value for key, value in learned.items() if key not in ("min", "max")}
    try:
        return ColumnContract.model_validate({**learned, **declared})
    except ValidationError as error:
        raise ContractError(
            f"models.{model}.input.columns.{name}: combined with the baseline, "
            f"{error.errors()[0]['msg'].removeprefix('Value error, ')}; the baseline has "
            f"{', '.join(f'{key}: {_short(value)}' for key, value in learned.items())}"
        ) from error


def _misfit(found: pa.DataType, rule: ColumnContract) -> str | None:
    """Why no value of a column of this type could keep the rule, or None."""
    kind = kind_of(found)
    if kind == "null":
        return None
    if rule.type is not None and kind not in READABLE_AS[rule.type]:
        return f"type is {rule.type}, but the query gives {found}; cast it in the query, or correct the type"
    kind = rule.type or kind
    comparable = {"integer": "number", "number": "number", "date": "date", "timestamp": "date"}.get(
        kind, kind
    )
    bounds = [value for value in (rule.min, rule.max) if value is not None]
    if bounds and comparable not in ("number", "date"):
        return f"the query gives {found}, which has no range; set type: number if the column holds numbers"
    if any(isinstance(bound, date) != (comparable == "date") for bound in bounds):
        return f"min and max cannot be compared with {found}; correct them, or cast the column in the query"
    for value in rule.allowed or ():
        if _comparable(value) != comparable:
            return f"allowed value {_short(value)} cannot be compared with {found}; set a type, or cast it"
    is_imputed = rule.on_violation == "impute" and rule.impute is not None
    if is_imputed and _comparable(rule.impute) != comparable:
        return f"impute: {_short(rule.impute)} is not a valid {found}; correct it, or cast the column"
    return None


def _comparable(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "date" if isinstance(value, date) else "text"


def _widened(values: pa.Array, impute: Any) -> pa.Array:
    """The values in a type that can also express `impute`, which replaces some of them."""
    kind = values.type
    if impute is None:
        return values
    if pa.types.is_null(kind):
        return values.cast(pa.scalar(impute).type)
    if pa.types.is_integer(kind):
        if isinstance(impute, float) and not impute.is_integer():
            return as_doubles(values)
        return values if _fits(int(impute), kind) else values.cast(pa.int64())
    if pa.types.is_decimal(kind):
        return values if _fits(Decimal(str(impute)), kind) else as_doubles(values)
    return values


def _imputed(values: pa.Array, found: list[Violation], impute: Any) -> tuple[pa.Array, int]:
    rows = found[0].rows
    for violation in found[1:]:
        rows = pc.or_(rows, violation.rows)
    kind = values.type
    if pa.types.is_integer(kind) and impute is not None:
        replacement = pa.scalar(int(impute), kind)
    elif pa.types.is_decimal(kind) and impute is not None:
        replacement = pa.scalar(Decimal(str(impute)), kind)  # a cast of a double would round it to the scale
    else:
        replacement = pa.scalar(impute, kind) if impute is None else pa.scalar(impute).cast(kind)
    return pc.if_else(rows, replacement, values), rows.true_count


def _fits(value: int | Decimal, kind: pa.DataType) -> bool:
    try:
        pa.scalar(value, kind)
    except (pa.ArrowInvalid, OverflowError):
        return False
    return True


def _with_nearest(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, n=1)
    return f"'{name}' (did you mean '{near[0]}'?)" if near else f"'{name}'"


def _short(value: object) -> str:
    text = "NULL" if value is None else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"
