"""SVG elements: the one module that writes them and escapes what stands in them.

Charts, bars, timelines and the benchmarks' plots are made of these. Coordinates are in the picture's own
units, whole numbers as they are and others with one decimal; colours are classes of the style sheets, so
that a page needs no inline style.
"""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

Value = str | int | float


def element(name: str, *content: str, **attributes: Value | None) -> Markup:
    """An element with its content; content that is not `Markup` is escaped.

    `class_`, `text_anchor` and the like mean `class`, `text-anchor`; an attribute of None is left out.
    """
    given = ((key.strip("_").replace("_", "-"), value) for key, value in attributes.items())
    written = "".join(f' {key}="{escape(_text(value))}"' for key, value in given if value is not None)
    if not content:
        return Markup(f"<{name}{written}/>")  # noqa: S704 -- escaped above
    return Markup(f"<{name}{written}>{join(content)}</{name}>")  # noqa: S704 -- escaped above


def join(parts: Iterable[str], separator: str = "") -> Markup:
    """Elements one after the other; what is not `Markup` is escaped."""
    return Markup(separator).join(parts)  # noqa: S704 -- a separator of ours


def rectangle(
    look: str,
    x: float,
    y: float,
    width: float,
    height: float,
    *,
    tip: str | None = None,
    at: str | None = None,
) -> Markup:
    """A bar; `tip` is shown by the mouse and read aloud, after the moment `at` (ISO 8601)."""
    return element("rect", *_title(tip), class_=look, x=x, y=y, width=width, height=height, data_at=at)


def dot(look: str, x: float, y: float, *, tip: str | None = None) -> Markup:
    return element("circle", *_title(tip), class_=look, cx=x, cy=y, r=3)


def link(to: str | None, words: str, mark: Markup) -> Markup:
    """A mark that leads somewhere by click; without `to` the mark alone.

    The keyboard gets there by the table beside the picture, not by a hundred stops in it.
    """
    return mark if to is None else element("a", mark, href=to, tabindex="-1", aria_label=words)


def level(look: str, left: float, right: float, y: float) -> Markup:
    """A horizontal line."""
    return element("line", class_=look, x1=left, x2=right, y1=y, y2=y)


def upright(look: str, x: float, top: float, bottom: float) -> Markup:
    """A vertical line."""
    return element("line", class_=look, x1=x, x2=x, y1=top, y2=bottom)


def label(words: str, x: float, y: float, *, anchor: str | None = None) -> Markup:
    """Small text; `anchor` says which end of it stands at `x`: start, middle or end."""
    return element("text", words, class_="tick", text_anchor=anchor, x=x, y=y)


def lines(words: Iterable[str], x: float, y: float, *, anchor: str | None = None) -> Markup:
    """Small text, the rest of it below the first line, as far as the writing is high."""
    first, *rest = words
    below = [element("tspan", each, x=x, dy="1.1em") for each in rest]
    return element("text", first, *below, class_="tick", text_anchor=anchor, x=x, y=y)


def picture(
    body: Iterable[str],
    width: int,
    height: int,
    *,
    key: str,
    title: str,
    description: str,
    has_links: bool = False,
    **data: Value | None,
) -> Markup:
    """A whole picture with a title and a description for people who cannot see it.

    `key` makes the ids unique on the page. Nothing inside of an image can be reached:
    with links it is a group. `data` are further attributes.
    """
    return element(
        "svg",
        element("title", title, id=f"{key}-title"),
        element("desc", description, id=f"{key}-desc"),
        *body,
        class_="chart",
        viewBox=f"0 0 {width} {height}",
        role="group" if has_links else "img",
        aria_labelledby=f"{key}-title {key}-desc",
        **data,
    )


def strip(body: Iterable[str], width: int, height: int, *, description: str, **data: Value | None) -> Markup:
    """A small picture without a title, stretched to the place that it gets; `data` are further attributes."""
    return element(
        "svg",
        join(body),
        class_="bars",
        role="img",
        aria_label=description,
        preserveAspectRatio="none",
        viewBox=f"0 0 {width} {height}",
        **data,
    )


def swatch(look: str) -> Markup:
    """A small square of a series' colour, for a legend; says nothing by itself."""
    square = element("rect", class_=look, width=10, height=10)
    return element("svg", square, class_="swatch", viewBox="0 0 10 10", aria_hidden="true")


def _title(tip: str | None) -> tuple[Markup, ...]:
    return () if tip is None else (element("title", tip),)


def _text(value: Value) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
