"""Whether models are on time: late, missed and overrun, for the history and the notifiers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from mlops_plugin.config.schema import Config
from mlops_plugin.events.health.incidents import Sighting, Thresholds
from mlops_plugin.monitoring.model_state import DagSeen, model_state

ON_TIME = "on time"
_OFF_TIME = ("late", "missed", "overrun")
# The first run of a new or resumed DAG is due at once and starts within seconds; a round may see it before.
_NOT_FOR_A_MOMENT = {"late": Thresholds(failure=2), "missed": Thresholds(failure=2)}


def timing_target(name: str) -> str:
    """What stands for a model's timing among the targets of the history."""
    return f"timing {name}"


def timings(config: Config, dags: Mapping[str, DagSeen], now: datetime) -> list[Sighting]:
    """The timing of each model whose DAG Airflow knows."""
    seen = []
    for name, dag in dags.items():
        state = model_state(
            dag, None, now, late_after=config.monitor.late_after, limit=config.models[name].dispatch_timeout
        )
        word, why = (state.word, str(state.why)) if state.word in _OFF_TIME else (ON_TIME, None)
        thresholds = _NOT_FOR_A_MOMENT.get(word, Thresholds())
        seen.append(Sighting(timing_target(name), now, word, why, ON_TIME, thresholds))
    return seen
