"""`make docs` builds a site of all pages: no broken link, nothing from other hosts, a list of versions."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from support.chromium import new_context, open_chromium

ROOT = Path(__file__).resolve().parents[2]
# What a browser fetches by itself.
LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=[\"']?(https?://[^\"' >]+)")
EARLIER = "0.1.9"


def copy_pages(folder: Path) -> Path:
    """What the build reads, so that it leaves nothing in the repository."""
    shutil.copytree(ROOT / "docs", folder / "docs")
    for name in ("zensical.toml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does it, of the copy there."""
    command = [sys.executable, str(folder / "docs" / "site_versions.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, beside the folder of an earlier version."""
    folder = copy_pages(tmp_path_factory.mktemp("docs"))
    (folder / "site" / EARLIER).mkdir(parents=True)
    for page in ("index", "install"):
        (folder / "site" / EARLIER / f"{page}.html").write_text(f"<h1>Version {EARLIER}</h1>{page}")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [*folder.glob(".zensical*")]
    return folder / "site"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where a web server serves the site."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = new_context(browser)
    yield context.new_page()
    context.close()


def listed(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from listed(below)


def test_the_navigation_lists_each_page_once() -> None:
    navigation = [*listed(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])]
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(navigation) == sorted(pages)


def test_the_site_names_its_version_and_loads_nothing_from_other_hosts(site: Path, version: str) -> None:
    pages = [*(site / version).rglob("*.html")]
    assert len(pages) > len([*(ROOT / "docs").rglob("*.md")])  # one for what is missing, besides
    assert {page.name: found for page in pages if (found := LOADED.findall(page.read_text()))} == {}
    assert [page.name for page in pages if f"Version {version}" not in page.read_text()] == []
    assert not [*site.rglob("*.py")]


def test_the_versions_in_the_folder_are_listed_newest_first(site: Path, version: str) -> None:
    listed_versions = [each["version"] for each in json.loads((site / "versions.json").read_text())]
    assert listed_versions == [version, EARLIER]
    start = (site / "index.html").read_text()
    assert re.findall(r'"([\d.]+)/index.html"', start) == [version, EARLIER]
    assert f"url={version}/index.html" in start


def test_a_reader_gets_to_the_newest_version_and_from_there_to_another(
    address: str, page: Page, version: str
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/")
    page.wait_for_url(f"**/{version}/index.html")
    page.locator(".md-version__current", has_text=version).focus()
    page.locator(".md-version__link", has_text=EARLIER).click()
    page.wait_for_url(f"**/{EARLIER}/index.html")
    expect(page.get_by_role("heading")).to_have_text(f"Version {EARLIER}")
    assert {url for url in asked if not url.startswith(address)} == set()


def test_another_version_opens_at_the_same_page_or_where_it_has_none_at_its_start(
    address: str, page: Page, version: str
) -> None:
    for here, there in (("install.html#docker", "install.html#docker"), ("undo.html", "")):
        page.goto(f"{address}/{version}/{here}")
        page.locator(".md-version__current").focus()
        page.locator(".md-version__link", has_text=EARLIER).click()
        page.wait_for_url(f"**/{EARLIER}/{there}")


@pytest.mark.parametrize("is_served", [True, False], ids=["served", "from a disk"])
def test_search_finds_a_page(address: str, site: Path, page: Page, version: str, is_served: bool) -> None:
    start = address if is_served else site.as_uri()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{start}/{version}/index.html")
    page.get_by_role("button", name="Search").first.click()
    page.get_by_placeholder("Search").last.fill("quarantine")
    found = page.locator("a:has(mark)")
    expect(found.first).to_be_visible()
    found.first.click()
    expect(page.get_by_role("article")).to_contain_text("quarantine")
    assert "index.html" not in page.url
    assert {url for url in asked if not url.startswith(start)} == set()


def test_a_link_to_a_missing_heading_fails_the_build(tmp_path: Path) -> None:
    folder = copy_pages(tmp_path)
    (folder / "docs" / "glossary.md").write_text("# Glossary\n\n[install](install.md#no-such-heading)\n")
    assert build(folder).returncode != 0
    assert not (folder / "site" / "versions.json").exists()
