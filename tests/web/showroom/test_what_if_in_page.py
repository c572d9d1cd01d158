"""The page What if in a browser, drawn without Airflow: the result follows each change, and drawing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from mlops_plugin.config.schema import ImageConfig
from mlops_plugin.events.details.explanations import ReferenceSource
from mlops_plugin.serving.references import Usual
from mlops_plugin.web.showroom.steps import step_words
from mlops_plugin.web.showroom.what_if_fields import Drawing, changes_of, drawing_of, field_of
from web.conftest import drawn_page, rendered, without_errors
from web.scene import violations

PIXELS = tuple(f"p{number}" for number in range(6))
USUAL = {name: Usual(0.0, 0.0, 16.0) for name in PIXELS}
IMAGE = ImageConfig(width=3, height=2)


TEXT = "\n one\ntwo\r\n\nthree "  # as the source has it


def _html(*, is_picture: bool) -> str:
    fields = [field_of(name, 8.0, USUAL[name]) for name in PIXELS]
    if not is_picture:
        fields.append(field_of("said", TEXT, None))
        fields.append(field_of("kind", "b", Usual("a", None, None, ("a", "b", "c  d"))))
    values: dict[str, Any] = {
        "model": SimpleNamespace(name="digits", key=["id"]),
        "title": "Digits",
        "key": "[3]",
        "key_text": "3",
        "fields": fields,
        "source": ReferenceSource(5),
        "picture": None,
        "drawing": drawing_of(IMAGE, PIXELS, USUAL) if is_picture else None,
        "steps": list(step_words().items()),
    }
    return rendered("showroom/what_if.html", **values)


Asked = list[dict[str, list[str]]]


@contextlib.contextmanager
def _opened(browser: Browser, *, is_picture: bool, width: int = 1200) -> Iterator[tuple[Page, Asked]]:
    """The page, and the forms that it has sent; each is answered as the server would."""
    asked: Asked = []

    def answer(route: Route) -> None:
        asked.append(parse_qs(route.request.post_data or "", keep_blank_values=True))
        html = f'<h2 data-dispatch="d1">Result</h2><p class="prediction">{len(asked)}</p>'
        lines = [{"step": "collect", "state": "succeeded", "text": ""}, {"html": html}]
        route.fulfill(body="".join(json.dumps(line) + "\n" for line in lines))

    with drawn_page(browser, _html(is_picture=is_picture), width=width) as page, without_errors(page):
        page.route("**/showroom/digits/run", answer)
        yield page, asked


@contextlib.contextmanager
def _in_one_moment(page: Page) -> Iterator[None]:
    """What is done inside follows without a pause, however slow the browser is."""
    page.clock.install()
    page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))
    yield
    page.clock.resume()


def test_the_result_follows_changes_by_one_run_after_the_last_of_them(browser: Browser) -> None:
    with _opened(browser, is_picture=False) as (page, asked):
        field, slider = page.get_by_label("p1", exact=True), page.get_by_label("p1, slider")
        with _in_one_moment(page):
            for _ in range(5):
                slider.press("ArrowRight")
        expect(page.locator("#result .prediction")).to_have_text("1")
        expect(page.locator("#progress")).to_have_text("1")
        assert page.locator("#steps").is_hidden()
        (form,) = asked
        assert form["set.p1"] == [field.input_value()]
        assert form["was.p1"] == ["8.0"]
        assert (form["curve"], form["curve.low"], form["curve.high"]) == (["p1"], ["0.0"], ["16.0"])
        assert form["continues"] == [""]
        field.fill("1e")  # is being typed
        field.fill("1e1")
        expect(page.locator("#result .prediction")).to_have_text("2")
        assert (asked[1]["set.p1"], asked[1]["continues"]) == (["1e1"], ["d1"])
        page.get_by_role("button", name="Reset").click()
        expect(page.locator("#result .prediction")).to_have_text("3")
        assert asked[2]["set.p1"] == ["8.0"]
        assert page.evaluate("shifts") == []


def test_a_category_is_chosen_from_its_list_or_written(browser: Browser) -> None:
    with _opened(browser, is_picture=False) as (page, asked):
        field, choice = page.get_by_label("kind", exact=True), page.get_by_label("kind, list")
        assert (field.input_value(), choice.input_value()) == ("b", "b")
        choice.select_option("c  d")
        expect(field).to_have_value("c  d")
        expect(page.locator("#result .prediction")).to_have_text("1")
        (form,) = asked
        assert (form["set.kind"], form["curve"]) == (["c  d"], ["kind"])
        assert form["curve.value"] == ["a", "b", "c  d"]
        field.fill("e")
        expect(page.get_by_text("not in the list")).to_be_visible()
        assert choice.evaluate("list => list.selectedIndex") == -1
        expect(page.locator("#result .prediction")).to_have_text("2")
        with _in_one_moment(page):
            choice.select_option("NULL")
            expect(field).to_have_value("")
            expect(page.get_by_text("not in the list")).to_have_count(0)
            page.get_by_label("p1, slider").press("ArrowRight")
        expect(page.locator("#result .prediction")).to_have_text("3")
        assert (asked[2]["set.kind"], asked[2]["curve"]) == ([""], ["p1"])
        assert "curve.value" not in asked[2]
        page.get_by_role("button", name="Reset").click()
        expect(choice).to_have_value("b")
        assert page.evaluate("shifts") == []
        assert violations(page) == []


def test_a_text_of_several_lines_stays_as_it_is_until_somebody_changes_it(browser: Browser) -> None:
    with _opened(browser, is_picture=False) as (page, asked):
        page.get_by_label("p1, slider").press("ArrowRight")
        expect(page.locator("#result .prediction")).to_have_text("1")
        page.get_by_label("said").press("x")
        expect(page.locator("#result .prediction")).to_have_text("2")
        page.locator("#run").evaluate("form => form.submit()")  # as without a script
        expect(page.locator("#result .prediction")).to_have_count(0)
    sent = [[(name, value) for name, values in one.items() for value in values] for one in asked]
    untouched, touched, alone = map(changes_of, sent)
    assert list(untouched) == ["p1"]
    assert alone == touched
    assert touched == {**untouched, "said": touched["said"]}
    assert str(touched["said"]).replace("x", "") == TEXT.replace("\r\n", "\n")


def test_what_was_changed_is_there_again_when_one_comes_back(browser: Browser) -> None:
    with _opened(browser, is_picture=False) as (page, asked):
        page.get_by_label("kind, list").select_option("a")
        expect(page.locator("#result .prediction")).to_have_text("1")
        page.goto("http://pages.test/mlops/elsewhere")
        page.go_back()
        expect(page.locator("#result .prediction")).to_have_text("1")
        expect(page.get_by_label("kind", exact=True)).to_have_value("a")
        expect(page.get_by_label("kind, list")).to_have_value("a")
        assert len(asked) == 1  # nothing has run again
        page.reload()
        expect(page.get_by_label("kind", exact=True)).to_have_value("b")
        expect(page.locator("#result .prediction")).to_have_count(0)


@pytest.mark.parametrize("width", [1300, 400])
def test_the_result_is_in_view_beside_or_below_the_sliders(browser: Browser, width: int) -> None:
    with _opened(browser, is_picture=False, width=width) as (page, _asked):
        slider = page.get_by_label("p0, slider")
        slider.press("End")
        expect(page.locator("#result .prediction")).to_be_in_viewport()
        expect(slider).to_be_in_viewport()
        assert page.evaluate("shifts") == []
        # The last control, too, comes out from behind the result when it gets the focus.
        choice = page.get_by_label("kind, list")
        choice.focus()
        box, result = choice.bounding_box(), page.locator("#result").bounding_box()
        assert box is not None
        assert result is not None
        assert box["y"] + box["height"] <= result["y"] or box["x"] + box["width"] <= result["x"]


def test_what_is_no_number_yet_is_not_run(browser: Browser) -> None:
    with _opened(browser, is_picture=False) as (page, asked):
        page.get_by_label("p2", exact=True).fill("1e")
        page.wait_for_timeout(600)  # longer than the page waits after a change
        assert asked == []


def test_drawing_sets_the_pixels_and_the_result_follows(browser: Browser) -> None:
    with _opened(browser, is_picture=True) as (page, asked):
        canvas = page.get_by_role("application", name="Picture of this case")
        box = canvas.bounding_box()
        assert box is not None
        step = box["width"] / 3

        def pixels() -> list[str]:
            return [page.locator(f"[name='set.{name}']").input_value() for name in PIXELS]

        with _in_one_moment(page):
            page.mouse.move(box["x"] + step / 2, box["y"] + step / 2)
            page.mouse.down()
            page.mouse.move(box["x"] + 2.5 * step, box["y"] + step / 2)  # over the pixel between
            page.mouse.up()
        assert pixels() == ["16", "16", "16", "8.0", "8.0", "8.0"]
        expect(page.locator("#result .prediction")).to_have_text("1")
        assert [asked[0][f"set.{name}"] for name in PIXELS[:3]] == [["16"]] * 3
        assert asked[0]["curve"] == [""]
        page.get_by_label("Erase").check()
        canvas.click(position={"x": 1.5 * step, "y": step / 2})
        assert pixels()[1] == "0"
        canvas.focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Space"):  # from the middle to the corner
            page.keyboard.press(key)
        assert pixels()[5] == "0"
        expect(page.locator("#drawing-said")).to_have_text("column 3, row 2: 0")
        grey = "document.querySelector('#drawing').getContext('2d').getImageData(0, 0, 3, 2).data"
        assert page.evaluate(f"[...{grey}].filter((_, n) => n % 4 === 0)") == [255, 0, 255, 128, 128, 0]
        page.get_by_role("button", name="Clear").click()
        assert pixels() == ["0"] * 6
        page.get_by_role("button", name="Reset").click()
        expect(page.locator("[name='set.p0']")).to_have_value("8.0")
        page.wait_for_function(f"{grey}[0] === 128")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == []
        for width in (700, 400):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    ("image", "usual", "drawing"),
    [
        (IMAGE, USUAL, Drawing(3, 2, 0.0, 16.0)),
        (IMAGE, {**USUAL, "p0": Usual(None, None, None)}, Drawing(3, 2, 0.0, 16.0)),
        (None, USUAL, None),
        (ImageConfig(width=2, height=2), USUAL, None),
        (IMAGE, {name: Usual("x", None, None) for name in PIXELS}, None),
        (IMAGE, {name: Usual(1, 1, 1) for name in PIXELS}, None),
    ],
)
def test_a_picture_can_be_drawn_on_if_its_brightness_is_known(
    image: ImageConfig | None, usual: dict[str, Usual], drawing: Drawing | None
) -> None:
    assert drawing_of(image, PIXELS, usual) == drawing
