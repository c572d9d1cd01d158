"""The four steps of a Showroom run in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlops_plugin.events.records import Step
from mlops_plugin.serving.run import StepNews

STEP_WORDS: Mapping[Step, str] = {"collect": "Collect", "log": "Log", "infer": "Infer", "persist": "Show"}


def step_text(news: StepNews) -> str:
    """How long it took and how many rows it had."""
    if news.seconds is None:
        return "running"
    rows = "" if news.rows is None else f", {news.rows} {'row' if news.rows == 1 else 'rows'}"
    return f"{news.seconds * 1000:.0f} ms{rows}"


def ended_steps(news: Sequence[StepNews]) -> list[tuple[Step, str, str, str]]:
    """All steps as a run left them: step, word, state, text."""
    last = {one.step: one for one in news}
    return [
        (step, word, last[step].state, step_text(last[step])) if step in last else (step, word, "waiting", "")
        for step, word in STEP_WORDS.items()
    ]
