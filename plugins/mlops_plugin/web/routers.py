"""The views there are, in the order of Airflow's navigation."""

from __future__ import annotations

from fastapi import APIRouter

from mlops_plugin.web import (
    dispatch_api,
    dispatches,
    monitor,
    monitor_history,
    showroom,
    showroom_api,
    showroom_questions,
    showroom_run,
)


def all_views() -> list[APIRouter]:
    """The routers of all views."""
    return [
        showroom.router,
        showroom_run.router,
        showroom_questions.router,
        showroom_api.router,
        dispatches.router,
        dispatch_api.router,
        monitor.router,
        monitor_history.router,
    ]
