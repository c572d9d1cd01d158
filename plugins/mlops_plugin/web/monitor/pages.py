"""The state of models, hosts and databases: as a page, a fragment that refreshes, and JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse

from mlops_plugin.orchestration.dag_states import AirflowStateDep
from mlops_plugin.web.access import reads
from mlops_plugin.web.monitor.listing import MonitorQuery, shown_values
from mlops_plugin.web.monitor.records import MonitorStatus
from mlops_plugin.web.monitor.status import status_of
from mlops_plugin.web.pages import pages
from mlops_plugin.web.visible import VisibleDep

router = APIRouter()


def current_status(seen: VisibleDep, airflow: AirflowStateDep) -> MonitorStatus:
    """What the Monitor knows now."""
    return status_of(seen, airflow)


Status = Annotated[MonitorStatus, Depends(current_status)]
Asked = Annotated[MonitorQuery, Query()]


@router.get("/monitor", response_class=HTMLResponse, dependencies=[reads("Monitor")], include_in_schema=False)
def monitor_page(request: Request, status: Status, asked: Asked) -> HTMLResponse:
    """Models, hosts and databases, and how they are."""
    return _page(request, "monitor/page.html", status, asked)


# At the same depth as the page, so that relative links work in both.
@router.get(
    "/monitor-status", response_class=HTMLResponse, dependencies=[reads("Monitor")], include_in_schema=False
)
def monitor_fragment(request: Request, status: Status, asked: Asked) -> HTMLResponse:
    """The part of the page that refreshes."""
    return _page(request, "monitor/status.html", status, asked)


@router.get("/api/v1/monitor", dependencies=[reads("Monitor")], tags=["Monitor"])
def monitor_status(status: Status) -> MonitorStatus:
    """Models, hosts and databases; `state` of a probe is `unknown` until its first result."""
    return status


def _page(request: Request, template: str, status: MonitorStatus, asked: MonitorQuery) -> HTMLResponse:
    return pages(request).render(request, template, **shown_values(status, asked))
