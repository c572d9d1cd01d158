"""`mlops check MODEL --parity FILE`: how far a model is from reference answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.pipeline.parity import ColumnParity

_MOST_SHOWN = 10  # rows that differ


def report_parity(model: ModelConfig, file: Path, *, must_be_confined: bool) -> bool:
    """Print a line for each column; returns whether one differs."""
    from mlops_plugin.pipeline.parity import compare_with_table

    parity = compare_with_table(model, file, must_be_confined=must_be_confined)
    print(f"{model.name}: {parity.rows:,} rows of {file}")
    for column in parity.columns:
        print(f"{'WRONG' if column.differing else 'ok   '} {column.name}: {_in_words(column)}")
    return any(column.differing for column in parity.columns)


def _in_words(column: ColumnParity) -> str:
    findings = []
    if column.largest is not None:
        findings.append(f"largest difference {column.largest:.3g} (row {column.worst})")
    if column.differing:
        rows = ", ".join(map(str, column.differing[:_MOST_SHOWN]))
        more = ", ..." if len(column.differing) > _MOST_SHOWN else ""
        kind = "another label" if column.largest is None else "a difference beyond the tolerance"
        findings.append(f"{len(column.differing):,} rows with {kind} ({rows}{more})")
    return "; ".join(findings) or "the same labels"
