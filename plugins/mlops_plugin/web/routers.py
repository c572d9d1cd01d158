"""The routers of all views, in the order of Airflow's navigation."""

from __future__ import annotations

from fastapi import APIRouter

from mlops_plugin.web.dispatches.api import router as dispatches_api
from mlops_plugin.web.dispatches.pages import router as dispatches_pages
from mlops_plugin.web.models.pages import router as models_pages
from mlops_plugin.web.monitor.history import router as monitor_history
from mlops_plugin.web.monitor.pages import router as monitor_pages
from mlops_plugin.web.showroom.api import router as showroom_api
from mlops_plugin.web.showroom.beside_cases import router as showroom_beside_cases
from mlops_plugin.web.showroom.pages import router as showroom_pages
from mlops_plugin.web.showroom.questions import router as showroom_questions
from mlops_plugin.web.showroom.runs import router as showroom_runs


def all_views() -> list[APIRouter]:
    """The routers of all views."""
    return [
        models_pages,
        showroom_pages,
        showroom_beside_cases,
        showroom_runs,
        showroom_questions,
        showroom_api,
        dispatches_pages,
        dispatches_api,
        monitor_pages,
        monitor_history,
    ]
