"""Takes the pictures in docs/images from the demo that `make up` has started; `make screenshots` runs it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, FrameLocator, Page, ViewportSize, sync_playwright

from local_stack.airflow_api import AirflowApi
from mlops_plugin.cli.local_environment import local_environment

CHECKOUT = Path(__file__).resolve().parent.parent
IMAGES = CHECKOUT / "docs" / "images"
MAX_BYTES = 200_000
SIZE: ViewportSize = {"width": 1280, "height": 800}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def showroom(frame: FrameLocator) -> None:
    """Two digits, run, with their results in sight."""
    frame.get_by_role("link", name="Handwritten digits", exact=True).click()
    for row in (1, 2, 3):
        frame.get_by_role("checkbox").nth(row).check()
    frame.get_by_role("button", name="Run the chosen cases").click()
    frame.locator("#result article").nth(2).wait_for()
    frame.locator("#steps").evaluate("steps => steps.scrollIntoView()")


def dispatches(frame: FrameLocator) -> None:
    """What has run so far."""
    frame.locator("#list tbody tr").first.wait_for()


def monitor(frame: FrameLocator) -> None:
    """Everything probed."""
    frame.locator("#as-of:not(:has([data-pending]))").wait_for()


VIEWS: dict[str, Callable[[FrameLocator], None]] = {
    "showroom": showroom,
    "dispatches": dispatches,
    "monitor": monitor,
}


def take(page: Page, view: str, scheme: Literal["light", "dark"]) -> None:
    """One picture of a view in its place in Airflow."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(f"/plugin/mlops-{view}")
    VIEWS[view](page.frame_locator("iframe"))
    page.wait_for_load_state("networkidle")
    file = IMAGES / f"{view}-{scheme}.png"
    page.screenshot(path=file, animations="disabled")
    size = file.stat().st_size
    if size > MAX_BYTES:
        sys.exit(f"{file} has {size:,} bytes, more than {MAX_BYTES:,}: show less, or a smaller window")
    print(f"{file.relative_to(CHECKOUT)}  {size / 1000:.0f} kB")


def demo() -> AirflowApi:
    """The demo's Airflow, signed in as admin."""
    settings = local_environment(CHECKOUT)
    if settings is None:
        sys.exit("there is no .local/env here: start the demo with `make up`, then try again")
    api = AirflowApi("127.0.0.1", int(settings["AIRFLOW__API__PORT"]))
    api.sign_in(_password())
    return api


def signed_in(browser: Browser, api: AirflowApi, size: ViewportSize) -> Page:
    """A page that the user admin has opened."""
    asked = {"username": "admin", "password": _password()}
    token = api.call("POST", "/auth/token", asked)["access_token"]
    context = browser.new_context(base_url=api.url, viewport=size, timezone_id="UTC", locale="en-GB")
    context.set_default_timeout(90_000)
    context.add_cookies([{"name": "_token", "value": token, "url": api.url}])
    return context.new_page()


def _password() -> str:
    return (CHECKOUT / ".local" / "admin-password").read_text().strip()


def main() -> None:
    api = demo()
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = signed_in(browser, api, SIZE)
        for view in VIEWS:
            for scheme in SCHEMES:
                take(page, view, scheme)
        browser.close()


if __name__ == "__main__":
    main()
