"""Which language a request gets."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from mlops_plugin.web.languages.negotiation import COOKIE, language_of


def asked(accept: str | None = None, cookie: str | None = None, path: str = "/mlops/monitor") -> str:
    headers = [(b"cookie", cookie.encode("latin-1"))] if cookie is not None else []
    headers += [(b"accept-language", accept.encode("latin-1"))] if accept is not None else []
    return language_of(Request({"type": "http", "path": path, "root_path": "/mlops", "headers": headers}))


@pytest.mark.parametrize(
    ("accept", "code"),
    [
        (None, "en"),
        ("", "en"),
        ("pt", "pt"),
        ("pt-BR,pt;q=0.9,en-US;q=0.8", "pt"),
        ("PT-pt", "pt"),
        ("en;q=0.5, pt-BR", "pt"),
        ("pt;q=0.4,en;q=0.5", "en"),
        ("de-DE,pt;q=0.5", "pt"),
        ("de,fr", "en"),
        ("*", "en"),
        ("pt;q=0", "en"),
        ("pt;q=nonsense,en", "en"),
        ("pt;q=nan", "en"),
        ("ptolemaic", "en"),
        (";;;,,q=1;pt", "en"),
        ("x" * 100_000 + ",pt", "en"),
    ],
)
def test_the_browser_says_which_languages_it_wants(accept: str | None, code: str) -> None:
    assert asked(accept) == code


def test_what_airflow_has_chosen_comes_before_the_browser() -> None:
    assert asked("en", f"{COOKIE}=pt") == "pt"
    assert asked("pt-BR", f"_token=x; {COOKIE}=en; theme=dark") == "en"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "xx",
        "PT",
        "pt-BR",
        "../../pt",
        "pt.po",
        '"><script>alert(1)</script>',
        "pt\x00",
        "\xff" * 5_000,
        "__class__",
    ],
)
def test_a_cookie_that_names_no_language_of_ours_is_as_none(value: str) -> None:
    assert asked("pt", f"{COOKIE}={value}") == "pt"
    assert asked("en", f"{COOKIE}={value}") == "en"


@pytest.mark.parametrize("path", ["/mlops/api/v1/monitor", "/mlops/api/v1/dispatches.csv"])
def test_programs_get_english_whatever_they_ask_for(path: str) -> None:
    assert asked("pt", f"{COOKIE}=pt", path) == "en"


def test_a_model_may_be_called_api() -> None:
    assert asked(cookie=f"{COOKIE}=pt", path="/mlops/showroom/api/state") == "pt"
