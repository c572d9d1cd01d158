"""What a soak has done and what it has found, in lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from support.soak_oracle import Findings

_SHOWN = 50  # findings


@dataclass
class Tally:
    """What was done, and what was found."""

    seed: int
    executor: str
    models: int
    faults: Counter[str] = field(default_factory=Counter)
    rests: int = 0  # times that everything was compared
    runs: int = 0
    steps: int = 0
    looks: int = 0
    orphans: int = 0  # idle processes of a killed scheduler's executor that had to be ended
    hangs: list[str] = field(default_factory=list)
    by_hand: dict[str, str] = field(default_factory=dict)  # run: why it may be a success, recorded as failed
    findings: Findings = field(default_factory=Findings)

    @property
    def is_clean(self) -> bool:
        return not (self.findings.all or self.hangs)

    @property
    def lines(self) -> list[str]:
        found = self.findings
        kinds = {
            "rows lost": found.lost,
            "rows doubled": found.doubled,
            "rows stale": found.stale,
            "states untrue": found.untrue,
            "hangs": self.hangs,
        }
        done = [f"{count:5} {name}" for name, count in self.faults.most_common()]
        wrong = [f"{len(found):5} {name}" for name, found in kinds.items()]
        total = (
            f"{self.executor}, seed {self.seed}: {self.faults.total()} faults, {self.runs} dispatches of "
            f"{self.models} models, {self.steps} steps succeeded, {self.looks} looks at a sink, "
            f"compared as a whole {self.rests} times, {self.orphans} orphans of the executor ended"
        )
        explained = [f"      not counted: {run}: {why}" for run, why in self.by_hand.items()]
        wrong_lines = [f"      {line}" for line in [*found.all, *self.hangs][:_SHOWN]]
        return [total, *done, "", *wrong, *wrong_lines, *explained]
