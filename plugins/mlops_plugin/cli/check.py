"""`mlops check`: says everything that is wrong with the models, on one stream, and fails if anything is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlops_plugin.errors import ConfigError, EnvironmentUnusable, InstalledTwice, MlopsError

if TYPE_CHECKING:
    from mlops_plugin.config.loader import LoadedConfig
    from mlops_plugin.config.places import Places
    from mlops_plugin.config.schema import ModelConfig
    from mlops_plugin.pipeline.deployment import Deployment
    from mlops_plugin.pipeline.inspection import Finding

# What a finding is about, if it is not called as the key is.
_KEYS = {"features": ("source", "query"), "round_trip": ("source", "query"), "signature": ("model",)}


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
    from mlops_plugin.config.places import Places

    _print_second_copy()
    wanted = names or [*loaded.config.models, *loaded.broken]
    sound: list[ModelConfig] = []
    invalid = [] if names else [*loaded.faults]
    for name in wanted:
        try:
            sound.append(loaded.model(name))
        except ConfigError as error:
            invalid += error.problems
    problems = [str(problem) for problem in dict.fromkeys(invalid)]  # models of a file share its faults
    places = Places(loaded)
    wrong: set[str] = set()
    for model in sound:
        if found := _problems_of_text(loaded, model, places):
            wrong.add(model.name)
            problems += found
    for problem in problems:
        print(problem)
    failed = len(problems)
    if deployment is not None:
        for name, finding in _findings(sound, loaded, deployment, is_round_trip):
            if finding.problem in problems:
                continue  # the text of the query alone has shown it
            if _print_finding(finding, _place(places, name, finding)):
                failed += 1
                wrong.add(name)
    count = "no problems" if not failed else "1 problem" if failed == 1 else f"{failed} problems"
    well = sum(model.name not in wrong for model in sound)
    print(f"{loaded.path}: {well} of {len(wanted)} models OK; {count}")
    return failed


def _print_second_copy() -> None:
    """Warn of a plugins folder and a wheel that are two copies; what is checked here is one of them."""
    from mlops_plugin.orchestration.installed_copies import require_one_copy

    try:
        require_one_copy()
    except InstalledTwice as error:
        print(f"note  installation: {error}")


def _problems_of_text(loaded: LoadedConfig, model: ModelConfig, places: Places) -> list[str]:
    """What the configuration alone shows to be wrong with a model that could be read."""
    from mlops_plugin.config.fed_assets import find_circle, find_unfed
    from mlops_plugin.pipeline.reading.query_check import find_problems

    known = {*loaded.config.models, *loaded.broken}
    never = [*find_unfed(model, known)] if loaded.is_complete else []
    if circle := find_circle(model, loaded.config.models):
        never.append(circle)
    waiting = [
        f"{places.of_model(model.name, ('schedule',))}: models.{model.name}.schedule: {message}"
        for message in never
    ]
    return [*map(str, find_problems(model)), *waiting, *_problems_of_environment(model, places)]


def _problems_of_environment(model: ModelConfig, places: Places) -> Iterator[str]:
    """What is wrong with the requirements of the model's own libraries; whether they are installed is a fact
    of this machine."""
    from mlops_plugin.environments.location import Environment

    try:
        Environment.of(model)
    except EnvironmentUnusable as error:
        keys = ("model", "environment", "requirements")
        yield f"{places.of_model(model.name, keys)}: models.{model.name}.{'.'.join(keys)}: {error}"


def _findings(
    models: Sequence[ModelConfig], loaded: LoadedConfig, deployment: Deployment, is_round_trip: bool
) -> Iterator[tuple[str, Finding]]:
    """Each finding with the name of its model; '' for what all models share."""
    from mlops_plugin.orchestration.rendering import render
    from mlops_plugin.pipeline.inspection import inspect_events, inspect_model
    from mlops_plugin.pipeline.shared_sinks import find_shared_sinks

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
        yield from ((model.name, finding) for finding in _inspect_showroom(model, deployment))
        yield from ((model.name, finding) for finding in _inspect_assets(model))
    names = {model.name for model in models}
    for model, finding in find_shared_sinks(loaded.config.models.values(), deployment.airflow_home):
        if model.name in names:
            yield model.name, finding


def _inspect_showroom(model: ModelConfig, deployment: Deployment) -> Iterator[Finding]:
    """Describe the cases and look for `truth` and `search` among their columns; nothing if none is named."""
    from mlops_plugin.config.complaints import suggest
    from mlops_plugin.pipeline.inspection import Finding
    from mlops_plugin.serving.cases import open_cases

    showroom = model.showroom
    if not (showroom.cases or showroom.truth or showroom.search):
        return
    subject = f"models.{model.name}.showroom"
    tried = f"the cases on connection '{model.source.connection}'"
    try:
        with open_cases(model, deployment) as cases:
            columns = cases.columns
    except MlopsError as error:
        # Without a query of its own, `source` has the same problem.
        if showroom.cases:
            yield Finding(f"{subject}.cases", tried, str(error))
        return
    named = [("truth", showroom.truth), *(("search", column) for column in showroom.search)]
    missing = [(key, column) for key, column in named if column is not None and column not in columns]
    for key, column in missing:
        there = f"{suggest(column, columns)}the columns are {', '.join(columns)}"
        yield Finding(f"{subject}.{key}", tried, f"the cases have no column '{column}'; {there}")
    if not missing:
        yield Finding(subject, tried)


def _inspect_assets(model: ModelConfig) -> Iterator[Finding]:
    """Ask Airflow for the assets that no other model updates; nothing if its database is not there."""
    from mlops_plugin.cli.airflow_knowledge import updated_assets
    from mlops_plugin.config.fed_assets import foreign_assets
    from mlops_plugin.pipeline.inspection import Finding

    foreign = foreign_assets(model)
    updated = updated_assets(foreign) if foreign else None
    for asset in foreign if updated is not None else ():
        note = None
        if asset not in (updated or ()):
            note = "no task of this Airflow updates it, and it was never updated: the model would not run"
        yield Finding(f"models.{model.name}.schedule", f"the asset '{asset}'", note=note)


def _place(places: Places, name: str, finding: Finding) -> str:
    """File and line of what a finding is about."""
    if not name:
        return places.of_setting((finding.subject,))
    part = finding.subject.removeprefix(f"models.{name}.")
    return places.of_model(name, _KEYS.get(part, tuple(part.split("."))))


def _print_finding(finding: Finding, place: str) -> bool:
    """Print it; returns whether it is a problem."""
    word = "WRONG" if finding.problem is not None else "note " if finding.note is not None else "ok   "
    print(f"{word} {finding.subject}: {finding.tried}")
    if finding.problem is not None:
        is_placed = finding.problem.startswith(f"{place.rpartition(':')[0]}:")
        print(f"      {finding.problem}" if is_placed else f"      {place}: {finding.problem}")
    if finding.note is not None:
        print(f"      {finding.note}", flush=True)
    return finding.problem is not None
