"""Pages from templates: links that hold under any prefix, and the one place that renders."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined
from markupsafe import Markup, escape

from mlops_plugin import formatting
from mlops_plugin.connections import airflow_base_url
from mlops_plugin.web.badges import badge_of
from mlops_plugin.web.languages import translation, written_values
from mlops_plugin.web.languages.catalogues import LANGUAGES, script_words
from mlops_plugin.web.languages.negotiation import COOKIE
from mlops_plugin.web.time_zone import COOKIE as ZONE_COOKIE
from mlops_plugin.web.time_zone import current_zone
from mlops_plugin.web.well_formed import printable

# Each has a folder here, with its templates and assets; a name starts with its view: `monitor/page.html`.
VIEWS = ("models", "showroom", "dispatches", "monitor")
_HERE = Path(__file__).parent


class Pages:
    """Renders templates and finds assets; one for each app."""

    @cached_property
    def environment(self) -> Environment:
        by_view = {view: FileSystemLoader(_HERE / view / "templates") for view in VIEWS}
        environment = Environment(
            loader=ChoiceLoader([FileSystemLoader(_HERE / "templates"), PrefixLoader(by_view)]),
            autoescape=True,
            undefined=StrictUndefined,
            extensions=["jinja2.ext.i18n"],
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.policies["ext.i18n.trimmed"] = True
        environment.install_gettext_callables(  # type: ignore[attr-defined]  # of the extension
            translation.raw_gettext,
            translation.raw_ngettext,
            newstyle=True,
            pgettext=translation.raw_pgettext,
        )
        environment.filters |= {
            "badge": badge_of,
            "word": translation.word_of,
            "thousands": written_values.format_count,
            "duration": written_values.format_duration,
            "latency": written_values.format_latency,
            "minute": partial(_time, form=formatting.format_minute, is_to_the_minute=True),
            "moment": partial(_time, form=formatting.format_moment),
            "ago": _ago,
            "number": written_values.format_number,
            "value": written_values.format_value,
            "cell": written_values.format_cell,
        }
        return environment

    @cached_property
    def assets(self) -> Mapping[str, Path]:
        """Every asset that may be served, by name: `page.js` of all views, `monitor/monitor.css` of one."""
        shared = {file.name: file for file in (_HERE / "static").iterdir()}
        own = {f"{view}/{file.name}": file for view in VIEWS for file in (_HERE / view / "static").iterdir()}
        return shared | own

    @cached_property
    def version(self) -> str:
        """Changes when any asset does, so that browsers may keep assets for long."""
        digest = hashlib.sha256()
        for _, file in sorted(self.assets.items()):
            digest.update(file.read_bytes())
        return digest.hexdigest()[:12]

    def render(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A template as an answer; it can use `url`, `airflow_url` and `asset` for links."""

        def asset(name: str) -> str:
            return f"{url(request, 'static/' + name)}?{self.version}"

        code = translation.current_code()
        html = self.environment.get_template(template).render(
            language=code,
            languages=LANGUAGES,
            language_cookie=COOKIE,
            zone=current_zone().key,
            zone_cookie=ZONE_COOKIE,
            script_words=script_words(code),
            may_reload=request.scope.get("method", "GET") == "GET",
            url=lambda path: url(request, path),
            airflow_url=lambda path: airflow_url(request, path),
            asset=asset,
            **values,
        )
        return HTMLResponse(printable(html), status_code=status)


def _time(at: datetime | None, form: Callable[[datetime], str], *, is_to_the_minute: bool = False) -> Markup:
    """A moment in UTC, which page.js turns into the reader's own time."""
    if at is None:
        return escape(formatting.MISSING)
    minute = Markup(" data-minute") if is_to_the_minute else ""
    return Markup('<time datetime="{}"{}>{}</time>').format(at.isoformat(), minute, form(at))


def _ago(at: datetime | None, now: datetime) -> Markup:
    """How long ago a moment was, with the exact one on hover; page.js keeps it up to date."""
    if at is None:
        return escape(formatting.MISSING)
    return Markup('<time datetime="{}" title="{}" data-ago="{}">{}</time>').format(
        at.isoformat(),
        formatting.format_moment(at),
        round((now - at).total_seconds()),
        written_values.format_distance(at - now),
    )


def pages(request: Request) -> Pages:
    """The renderer of the app that serves this request."""
    found: Pages = request.app.state.pages
    return found


def url(request: Request, path: str) -> str:
    """A link from this page to another of ours (`path` without a leading slash); relative."""
    return _up(request) + path or "./"


def address(request: Request, path: str) -> str:
    """The whole address of one of our paths, for use outside of the browser."""
    base_url = airflow_base_url()
    own = f"{request.scope['scheme']}://{request.headers.get('host', '')}"
    if not base_url:
        return f"{own}{request.scope['root_path']}/{path}"
    # Airflow serves below the path of its base_url, so that our mount point follows it.
    mount = request.scope["root_path"].removeprefix(urlsplit(base_url).path)
    return f"{base_url}{mount}/{path}"


def airflow_url(request: Request, path: str) -> str:
    """A link from this page to one of Airflow's own; relative."""
    return "../" + _up(request) + path


def _up(request: Request) -> str:
    # Relative links need to know neither our mount point, nor Airflow's base path, nor a proxy's prefix.
    below = str(request.scope["path"]).removeprefix(request.scope.get("root_path", ""))
    return "../" * (below.count("/") - 1)
