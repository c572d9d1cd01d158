"""Debian's Chromium for tests of pages, without windows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

# Who waits for a page or for what it shows: as long as a run of Airflow may take on a slow machine.
SOON_MS = 120_000
# The same browser without what draws windows: a page costs a fraction of the time.
_SHELL = "chromium-headless-shell"


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """A browser without windows, which ends with the block."""
    expect.set_options(timeout=SOON_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(_SHELL) or "/usr/bin/chromium",
            args=["--no-sandbox"],
            timeout=SOON_MS,
        )
        yield browser
        browser.close()


def new_context(browser: Browser, **settings: Any) -> BrowserContext:
    """Somebody's browser, in UTC unless `settings` say otherwise: a machine's own zone changes no test."""
    context = browser.new_context(**{"timezone_id": "UTC", **settings})
    context.set_default_timeout(SOON_MS)
    return context
