"""The Monitor: how the models, hosts and databases are, as a page, a fragment that refreshes, and JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from mlops_plugin.orchestration.dag_states import AirflowStateDep
from mlops_plugin.web.access import RightsDep, reads
from mlops_plugin.web.monitor.bars import day_bars
from mlops_plugin.web.monitor.status import MonitorStatus, status_of
from mlops_plugin.web.pages import pages
from mlops_plugin.web.site import SiteDep

router = APIRouter()

# The word always stands in the badge; its look only repeats it.
_BADGES = {
    "ok": "badge-ok",
    "up": "badge-ok",
    "succeeded": "badge-ok",
    "running": "badge-info",
    "partly": "badge-warn",
    "late": "badge-warn",
    "missed": "badge-bad",
    "overrun": "badge-warn",
    "failed": "badge-bad",
    "down": "badge-bad",
    "refused": "badge-bad",
    "timed out": "badge-bad",
    "unreachable": "badge-bad",
    "broken configuration": "badge-bad",
    "not in Airflow": "badge-bad",
}


def current_status(site: SiteDep, airflow: AirflowStateDep, rights: RightsDep) -> MonitorStatus:
    """What the Monitor knows now."""
    return status_of(site, airflow, rights)


Status = Annotated[MonitorStatus, Depends(current_status)]


@router.get("/monitor", response_class=HTMLResponse, dependencies=[reads("Monitor")], include_in_schema=False)
def monitor_page(request: Request, status: Status) -> HTMLResponse:
    return _page(request, "monitor/page.html", status)


# As deep as the page itself, so that links hold in both.
@router.get(
    "/monitor-status", response_class=HTMLResponse, dependencies=[reads("Monitor")], include_in_schema=False
)
def monitor_fragment(request: Request, status: Status) -> HTMLResponse:
    """The part of the page that refreshes."""
    return _page(request, "monitor/status.html", status)


@router.get("/api/v1/monitor", dependencies=[reads("Monitor")], tags=["Monitor"])
def monitor_status(status: Status) -> MonitorStatus:
    """Models, hosts and databases; `state` of a probe is `unknown` until its first result is there."""
    return status


def _page(request: Request, template: str, status: MonitorStatus) -> HTMLResponse:
    return pages(request).render(request, template, seen=status, badges=_BADGES, day_bars=day_bars)
