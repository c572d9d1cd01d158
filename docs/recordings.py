"""Records the short sequences in docs/recordings from the demo that `make up` has started.

`make screenshots` runs it. A sequence is an animated picture of a page, or of a terminal, after each step of
a user. One of them needs a dispatch that fails: while it runs, the source has a row beyond the contract.
"""

from __future__ import annotations

import contextlib
import html
import io
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, Locator, Page, ViewportSize, sync_playwright
from screenshots import CHECKOUT, demo, signed_in

from local_stack.airflow_api import AirflowApi

RECORDINGS = CHECKOUT / "docs" / "recordings"
MAX_BYTES = 1_000_000
_SIZE: ViewportSize = {"width": 1100, "height": 700}
_SCALE = 0.8
_TYPED_MS, _READ_MS, _READ_MS_PER_LINE = 1000, 1200, 120
_MODEL_WITH_LIMITS, _ROW_BEYOND_LIMITS = "diabetes", 999_999
_FAILS_WITHIN_S = 120
_CHANGES = (("petal_length", 2.4), ("petal_length", 3.2), ("petal_length", 4.4), ("petal_width", 2.2))
_CAPTION_HEIGHT, _CAPTION_SIZE, _CAPTION_COLORS = 44, 17, ("#1e293b", "#ffffff")
_POINT = """
([x, y]) => {
  const old = document.getElementById("pointer");
  const found = old || document.body.appendChild(document.createElement("div"));
  found.id = "pointer";
  found.style.cssText = `position:fixed;z-index:99999;pointer-events:none;left:${x - 14}px;top:${y - 14}px;`
    + "width:28px;height:28px;border-radius:50%;background:#f59e0b99;border:2px solid #b45309;"
    + "display:" + (x ? "block" : "none");
}
"""
_TERMINAL = """<!doctype html>
<style>
body { margin: 0; background: #0f172a; }
pre { margin: 0; padding: 18px 22px; box-sizing: border-box; height: 100vh; overflow: hidden; color: #e2e8f0;
  font: 17px/1.42 "DejaVu Sans Mono", monospace; white-space: pre-wrap; }
b { color: #7dd3fc; }
</style>
<pre></pre>"""
_WRITE = "text => { const pre = document.querySelector('pre'); pre.innerHTML = text; pre.scrollTop = 1e6; }"
# Folders of this machine say nothing to a reader.
_SHOWN_AS = {str(CHECKOUT): "/srv/mlops", sys.base_prefix: "/usr"}
_RENAME = """
shown => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = texts.nextNode()); ) {
    for (const [folder, name] of Object.entries(shown)) {
      if (text.data.includes(folder)) text.data = text.data.replaceAll(folder, name);
    }
  }
}
"""


class Recording:
    """What the viewer sees, one picture after the other."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._pictures: list[Image.Image] = []
        self._times_ms: list[int] = []
        self._caption = ""

    def show(
        self, time_ms: int, caption: str | None = None, at: Locator | None = None, share: float = 0.5
    ) -> None:
        """Add the page as it is, with the caption below (by default the one before).

        The pointer is on `at`, after this share of its width.
        """
        self._caption = self._caption if caption is None else caption
        box = at.bounding_box() if at else None
        x, y = (box["x"] + box["width"] * share, box["y"] + box["height"] / 2) if box else (0, 0)
        for frame in self._page.frames:
            frame.evaluate(_RENAME, _SHOWN_AS)
        self._page.evaluate(_POINT, [x, y])
        self._pictures.append(_captioned(self._page.screenshot(animations="disabled"), self._caption))
        self._times_ms.append(time_ms)

    def click(self, target: Locator, caption: str) -> None:
        """Show the pointer on what is clicked next, then click it."""
        target.scroll_into_view_if_needed()
        self.show(1800, caption, at=target)
        target.click()

    def save(self, file: Path) -> None:
        first, *others = self._pictures
        first.save(
            file, save_all=True, append_images=others, duration=self._times_ms, loop=0, quality=55, method=4
        )
        size = file.stat().st_size
        if size > MAX_BYTES:
            sys.exit(f"{file} has {size:,} bytes, more than {MAX_BYTES:,}: show less")
        print(f"{file.relative_to(CHECKOUT)}  {sum(self._times_ms) / 1000:.0f} s, {size / 1000:.0f} kB")


def _captioned(screenshot: bytes, caption: str) -> Image.Image:
    """The screenshot in the size of the recording, above its caption."""
    whole = Image.open(io.BytesIO(screenshot)).convert("RGB")
    size = (round(whole.width * _SCALE), round(whole.height * _SCALE))
    background, color = _CAPTION_COLORS
    picture = Image.new("RGB", (size[0], size[1] + _CAPTION_HEIGHT), background)
    picture.paste(whole.resize(size, Image.Resampling.LANCZOS))
    place = (18, size[1] + _CAPTION_HEIGHT // 2)
    font = ImageFont.load_default(_CAPTION_SIZE)
    ImageDraw.Draw(picture).text(place, caption, fill=color, font=font, anchor="lm")
    return picture


def first_model(browser: Browser, _api: AirflowApi) -> Recording:
    """The commands of docs/first-model.md, and what they print."""
    page = browser.new_page(viewport=_SIZE)
    page.set_content(_TERMINAL)
    recording = Recording(page)
    shown = before = ""
    for command, printed in _tutorial():
        caption = next(words for start, words in _CAPTIONS.items() if command.startswith(start))
        if caption != before:
            shown, before = "", caption
        shown += f"<b>$ {html.escape(command)}</b>\n"
        page.evaluate(_WRITE, shown)
        recording.show(_TYPED_MS, caption)
        if printed:
            shown += html.escape(printed)
            page.evaluate(_WRITE, shown)
            recording.show(_READ_MS + printed.count("\n") * _READ_MS_PER_LINE)
    recording.show(3000)
    return recording


_CAPTIONS = {
    "python train.py": "Train a model and save it",
    "export": "Say where things are: no password stands in the configuration",
    "mlops init": "mlops init reads the model and the query, and writes the entry",
    "mlops db upgrade": "Make the event store, the record of what ran",
    "mlops check": "Check everything before the first run",
    "mlops dispatch": "Dispatch: read, predict, and write in one transaction",
    "mlops models": "See how each model is",
    "python chart.py": "The predictions are in the database",
}


def _tutorial() -> Iterator[tuple[str, str]]:
    """Each command of the tutorial with its output, run in an empty folder."""
    text = (CHECKOUT / "docs" / "first-model.md").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "penguins"
        folder.mkdir()
        for file, code in re.findall(r"Save this as `([\w.]+)`:\n\n```python\n(.*?)```", text, re.DOTALL):
            (folder / file).write_text(code)
        environment = {key: value for key, value in os.environ.items() if "AIRFLOW" not in key}
        environment |= {"PATH": f"{CHECKOUT / '.venv' / 'bin'}:{environment['PATH']}", "COLUMNS": "110"}
        settings = ""
        for line in "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines():
            done = subprocess.run(
                ["sh", "-euc", f"{settings}{line}"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=True,
            )
            if line.startswith("export "):
                settings += f"{line}\n"
            yield line, done.stdout.replace(f"{folder}/", "")


def what_if(browser: Browser, api: AirflowApi) -> Recording:
    """A case in the Showroom, and what the model would answer if it were another one."""
    page = signed_in(browser, api, _SIZE)
    recording, frame = Recording(page), page.frame_locator("iframe")
    page.goto("/plugin/mlops-showroom")
    iris = frame.get_by_role("link", name="Iris", exact=True)
    iris.wait_for()
    recording.show(1200, "The Showroom: run a model on cases that you choose")
    recording.click(iris, "Choose a model")
    case = frame.get_by_role("checkbox").nth(3)
    recording.click(case, "Choose a case")
    recording.click(frame.get_by_role("button", name="Run the chosen case"), "Run the model")
    frame.locator("#result article").first.wait_for()
    recording.show(2500, "The prediction, beside the truth that is known")
    recording.click(
        frame.get_by_role("link", name="What if").or_(frame.get_by_text("What if…")).first, "What if?"
    )
    frame.get_by_role("slider").first.wait_for()
    recording.show(1500, "Each feature has a slider")
    for feature, value in _CHANGES:
        slider = frame.get_by_role("slider", name=f"{feature}_cm, slider")
        slider.fill(str(value))
        frame.get_by_role("article").filter(has_text=f"→ {value}").wait_for()
        page.wait_for_load_state("networkidle")
        least, greatest = (float(slider.get_attribute(name) or 0) for name in ("min", "max"))
        share = (value - least) / (greatest - least)
        recording.show(1800, f"The prediction follows: {feature}_cm is {value}", at=slider, share=share)
    recording.show(3500, "The curve shows where the answer changes")
    return recording


def why_it_failed(browser: Browser, api: AirflowApi) -> Recording:
    """From the Monitor to the dispatch that failed, its reason, and its log."""
    _fail_a_dispatch(api)
    page = signed_in(browser, api, _SIZE)
    recording, frame = Recording(page), page.frame_locator("iframe")
    page.goto("/plugin/mlops-monitor")
    frame.locator("#as-of:not(:has([data-pending]))").wait_for()
    row = frame.locator("tr", has_text=_MODEL_WITH_LIMITS)
    recording.show(2500, "The Monitor: one model has failed")
    recording.show(3500, "It says why", at=row.locator("td").nth(1))
    recording.click(row.get_by_role("link", name="ago"), "Open the dispatch")
    infer = frame.get_by_role("row", name="infer").first
    infer.wait_for()
    recording.show(3500, "Its steps: rows were read, and refused before any prediction was written", at=infer)
    query = frame.get_by_text("WHERE observed_at").first
    query.scroll_into_view_if_needed()
    recording.show(3000, "The query that ran, and its first and last key", at=query)
    frame.get_by_role("heading", name="Steps", exact=True).scroll_into_view_if_needed()
    recording.show(
        2000, "The task's log in Airflow is one click away", at=infer.get_by_role("link", name="Log")
    )
    again = frame.get_by_text("Run again").first
    recording.show(3500, "Correct the source, and run it again", at=again)
    api.trigger(_MODEL_WITH_LIMITS)  # without that row it succeeds, and the demo is as it was
    return recording


def _fail_a_dispatch(api: AirflowApi) -> None:
    """By a row beyond the limits of the contract, which is gone again when this returns."""
    _in_source(
        f"INSERT INTO diabetes SELECT {_ROW_BEYOND_LIMITS}, observed_at, age, sex, 250, bp,"
        " s1, s2, s3, s4, s5, s6, truth FROM diabetes ORDER BY id LIMIT 1"
    )
    try:
        api.trigger(_MODEL_WITH_LIMITS)
        deadline = time.monotonic() + _FAILS_WITHIN_S
        while (state := api.runs(_MODEL_WITH_LIMITS)[0]["state"]) in ("queued", "running"):
            if time.monotonic() > deadline:
                sys.exit(f"the dispatch of {_MODEL_WITH_LIMITS} is still {state}")
            time.sleep(1)
    finally:
        _in_source(f"DELETE FROM diabetes WHERE id = {_ROW_BEYOND_LIMITS}")


def _in_source(statement: str) -> None:
    with contextlib.closing(sqlite3.connect(CHECKOUT / ".local" / "demo.db")) as database, database:
        database.execute(statement)


RECORDED: dict[str, Callable[[Browser, AirflowApi], Recording]] = {
    "first-model": first_model,
    "what-if": what_if,
    "why-it-failed": why_it_failed,
}


def main() -> None:
    names = sys.argv[1:] or [*RECORDED]
    RECORDINGS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        api = demo()
        for name in names:
            RECORDED[name](browser, api).save(RECORDINGS / f"{name}.webp")
        browser.close()


if __name__ == "__main__":
    main()
