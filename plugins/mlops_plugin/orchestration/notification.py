"""Notifies Airflow notifiers of changes, each once: what a killed task did not report, the next one does."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from mlops_plugin.config.schema import NotifierConfig
from mlops_plugin.errors import NotifierUnusable
from mlops_plugin.events.health.notices import Notice, Notices
from mlops_plugin.masking import masked

_GIVEN_UP_AFTER = timedelta(days=1)


def check_notifiers(notifiers: Sequence[NotifierConfig]) -> None:
    """Create each notifier once, without sending anything; raises `NotifierUnusable`."""
    for index, notifier in enumerate(notifiers):
        _make(notifier, index)


def notify_all(
    notices: Notices, notifiers: Sequence[NotifierConfig], context: Mapping[str, Any], *, lease: timedelta
) -> list[str]:
    """Notify every notifier of all waiting changes, oldest first; returns a text for each failure.

    A notifier that fails gets the rest in the next round, so that it receives everything in order. No other
    process sends the same notice within `lease`, which a process must not outlive.
    """
    failures: list[str] = []
    failed: set[str] = set()
    by_key = dict(zip(_keys(notifiers), enumerate(notifiers), strict=True))
    for waiting in notices.waiting():
        with _claimed(notices, waiting, lease) as notice:
            if notice is None:
                continue
            notified = set(notice.notified)
            for key, (index, config) in by_key.items():
                if key in notified or key in failed:
                    continue
                if failure := _notify_one(notice, config, index, context):
                    failures.append(failure)
                    failed.add(key)
                    continue
                notified.add(key)
                notices.remember(notice, sorted(notified))
            failures += _settle(notices, notice, missing=by_key.keys() - notified)
    return failures


def _settle(notices: Notices, notice: Notice, *, missing: set[str]) -> list[str]:
    now = notices.now()
    is_too_old = now - notice.change.at > _GIVEN_UP_AFTER
    if not missing or is_too_old:
        notices.settle(notice, now)
    if missing and is_too_old:
        change = f"{notice.name}: {notice.change.before} -> {notice.change.after}"
        return [f"{change} of {notice.change.at:%Y-%m-%d %H:%M UTC} is more than a day old and was dropped"]
    return []


@contextmanager
def _claimed(notices: Notices, waiting: Notice, lease: timedelta) -> Iterator[Notice | None]:
    notice = notices.claim(waiting, lease)
    try:
        yield notice
    finally:
        if notice is not None:
            notices.release(notice)


def _notify_one(notice: Notice, config: NotifierConfig, index: int, context: Mapping[str, Any]) -> str | None:
    """Why it failed, or None. Templates in its arguments see Airflow's `context` and the change."""
    change = notice.change
    news = {
        "target": notice.name,
        "before": change.before,
        "after": change.after,
        "error": masked(change.error or ""),
        "since": change.since,
    }
    try:
        _make(config, index)({**context, **news})
    except Exception as error:  # noqa: BLE001 -- the other notifiers must still run; the task fails afterwards
        return masked(f"monitor.notify[{index}] ({config.notifier}): {type(error).__name__}: {error}")
    return None


def _keys(notifiers: Sequence[NotifierConfig]) -> list[str]:
    """A name for each that stays when others are added: its class and arguments, and which of equal ones."""
    texts = [json.dumps(config.model_dump(mode="json"), sort_keys=True) for config in notifiers]
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    return [f"{found} {hashes[:index].count(found)}" for index, found in enumerate(hashes)]


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
    """With lists as the user wrote them: the configuration keeps them as tuples."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
