"""The four steps of a Showroom run in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlops_plugin.events.records import Step
from mlops_plugin.serving.run import StepNews
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.languages.translation import ngettext, pgettext


def step_words() -> Mapping[Step, str]:
    """The steps in order, as the page names them."""
    return {
        "collect": pgettext("step", "Collect"),
        "log": pgettext("step", "Log"),
        "infer": pgettext("step", "Infer"),
        "persist": pgettext("step", "Show"),
    }


def step_text(news: StepNews) -> str:
    """How long it took and how many rows it had."""
    if news.seconds is None:
        return _("running")
    took = f"{news.seconds * 1000:.0f} ms"
    if news.rows is None:
        return took
    return f"{took}, {ngettext('%(number)s row', '%(number)s rows', news.rows)}"


def ended_steps(news: Sequence[StepNews]) -> list[tuple[Step, str, str, str]]:
    """All steps as a run left them: step, word, state, text."""
    last = {one.step: one for one in news}
    return [
        (step, word, last[step].state, step_text(last[step])) if step in last else (step, word, "waiting", "")
        for step, word in step_words().items()
    ]
