"""`mlops check`: says everything that is wrong with the models, on one stream, and fails if anything is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlops_plugin.errors import ConfigError

if TYPE_CHECKING:
    from mlops_plugin.config.loader import LoadedConfig
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.pipeline.deployment import Deployment
    from mlops_plugin.pipeline.inspection import Finding


def check_models(
    loaded: LoadedConfig,
    names: Sequence[str],
    deployment: Deployment | None,
    *,
    is_round_trip: bool = False,
) -> int:
    """Check these models (none named: all), with a deployment also what a dispatch would need.

    Returns how many problems were found.
    """
    from mlops_plugin.pipeline.reading.query_check import find_problems

    wanted = names or [*loaded.config.models, *loaded.broken]
    sound: list[ModelConfig] = []
    problems: list[str] = []
    for name in wanted:
        try:
            sound.append(loaded.model(name))
        except ConfigError as error:
            problems += map(str, error.problems)
    wrong: set[str] = set()
    for model in sound:
        if found := [str(problem) for problem in find_problems(model)]:
            wrong.add(model.name)
            problems += found
    for problem in problems:
        print(problem)
    failed = len(problems)
    if deployment is not None:
        for name, finding in _findings(sound, deployment, is_round_trip):
            if finding.problem in problems:
                continue  # the text of the query alone has shown it
            if _print_finding(finding):
                failed += 1
                wrong.add(name)
    count = "no problems" if not failed else "1 problem" if failed == 1 else f"{failed} problems"
    well = sum(model.name not in wrong for model in sound)
    print(f"{loaded.path}: {well} of {len(wanted)} models OK; {count}")
    return failed


def _findings(
    models: Sequence[ModelConfig], deployment: Deployment, is_round_trip: bool
) -> Iterator[tuple[str, Finding]]:
    """Each finding with the name of its model; '' for what all models share."""
    from mlops_plugin.orchestration.rendering import render
    from mlops_plugin.pipeline.inspection import inspect_events, inspect_model

    now = datetime.now(UTC)
    yield "", inspect_events(deployment)
    for model in models:
        found = inspect_model(
            model,
            deployment,
            lambda m: render(m.source.query, m, moment=now),
            is_round_trip=is_round_trip,
        )
        yield from ((model.name, finding) for finding in found)


def _print_finding(finding: Finding) -> bool:
    """Print it; returns whether it is a problem."""
    word = "WRONG" if finding.problem is not None else "note " if finding.note is not None else "ok   "
    print(f"{word} {finding.subject}: {finding.tried}")
    for said in (finding.problem, finding.note):
        if said is not None:
            print(f"      {said}", flush=True)
    return finding.problem is not None
