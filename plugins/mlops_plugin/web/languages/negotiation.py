"""Which language a request gets: the one chosen in Airflow's UI, else the browser's, else English.

Airflow's UI keeps the choice in the browser's `localStorage` (`i18nextLng`), which no server sees.
`static/choices.js` copies it to a cookie of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastapi import Request

from mlops_plugin.web.languages.catalogues import ENGLISH, LANGUAGES

COOKIE = "mlops_language"
_MAX_HEADER_CHARS = 1_000  # no browser sends more than a few languages


def language_of(request: Request) -> str:
    """The code of the language for a page; whatever is for programs is in English."""
    own_path = str(request.scope["path"]).removeprefix(request.scope.get("root_path", ""))
    if own_path.startswith("/api/"):
        return ENGLISH
    chosen = request.cookies.get(COOKIE, "")
    return chosen if chosen in LANGUAGES else _of_browser(request.headers)


def _of_browser(headers: Mapping[str, str]) -> str:
    for tag in _by_quality(headers.get("accept-language", "")[:_MAX_HEADER_CHARS]):
        code = tag.partition("-")[0]
        if code in LANGUAGES:
            return code
    return ENGLISH


def _by_quality(header: str) -> Iterator[str]:
    """The language tags of an Accept-Language (RFC 9110, 12.5.4), the most wanted first."""
    wanted = []
    for part in header.lower().split(","):
        tag, *parameters = (piece.strip() for piece in part.split(";"))
        quality = _quality(next((each[2:] for each in parameters if each.startswith("q=")), "1"))
        if quality > 0:
            wanted.append((quality, tag))
    wanted.sort(key=lambda found: -found[0])
    yield from (tag for _, tag in wanted)


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
