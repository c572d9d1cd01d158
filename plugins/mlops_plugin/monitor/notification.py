"""Tells Airflow notifiers that a state has changed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from mlops_plugin.config.schema import NotifierConfig
from mlops_plugin.errors import NotifierUnusable
from mlops_plugin.events.probes import Change


def check_notifiers(notifiers: Sequence[NotifierConfig]) -> None:
    """Make each notifier once, and send nothing; raises `NotifierUnusable`."""
    for index, notifier in enumerate(notifiers):
        _make(notifier, index)


def notify(
    change: Change, name: str, notifiers: Sequence[NotifierConfig], context: Mapping[str, Any]
) -> list[str]:
    """Tell every notifier of one change; returns what went wrong, one text for each that failed.

    Templates in the notifier's arguments see Airflow's `context` and `target`, `before`, `after`, `error`
    and `since`.
    """
    news = {
        "target": name,
        "before": change.before,
        "after": change.after,
        "error": change.error or "",
        "since": change.since,
    }
    failures = []
    for index, config in enumerate(notifiers):
        try:
            _make(config, index)({**context, **news})
        except Exception as error:  # noqa: BLE001 -- the others must still be told; the task fails afterwards
            failures.append(f"monitor.notify[{index}] ({config.notifier}): {type(error).__name__}: {error}")
    return failures


def _make(config: NotifierConfig, index: int) -> Any:
    from airflow.sdk import BaseNotifier

    where = f"monitor.notify[{index}]"
    module, _, name = config.notifier.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise NotifierUnusable(
            f"{where}: '{config.notifier}' cannot be imported ({error}); "
            "check the path, or install its provider"
        ) from error
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise NotifierUnusable(f"{where}: '{config.notifier}' is not an Airflow notifier (a BaseNotifier)")
    try:
        return found(**{name: _plain(value) for name, value in config.arguments.items()})
    except TypeError as error:
        raise NotifierUnusable(
            f"{where}: '{config.notifier}' does not take these arguments: {error}"
        ) from error


def _plain(value: Any) -> Any:
    """As people wrote it: the configuration keeps lists as tuples."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
