"""Features that are a picture: as a small PNG, and what each of its pixels contributes."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mlops_plugin.config.schema import ImageConfig
from mlops_plugin.events.details.explanations import Explanation
from mlops_plugin.web import svg
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.showroom.reasons import outcome_words

_PIXEL = 10  # of a contribution, in the drawing's units


def data_uri(pixels: Sequence[float | None], width: int, height: int) -> str | None:
    """A greyscale picture from the darkest value to the brightest; None if the pixels do not fit."""
    if len(pixels) != width * height:
        return None
    values = [0.0 if pixel is None or not math.isfinite(pixel) else float(pixel) for pixel in pixels]
    least, greatest = min(values), max(values)
    scale = 255 / (greatest - least) if greatest > least else 0.0
    grey = bytes(round((value - least) * scale) for value in values)
    lines = b"".join(b"\0" + grey[start : start + width] for start in range(0, len(grey), width))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, body)
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    )
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@dataclass(frozen=True)
class PixelMap:
    """`picture` is a link to the picture as the model saw it, `svg` has a square for each contribution."""

    picture: str | None
    svg: Markup


def pixel_map(found: Explanation, features: Sequence[str], image: ImageConfig | None) -> PixelMap | None:
    """None if the features, in the model's order, are no picture, or not all contributions are kept."""
    if image is None or len(features) != image.width * image.height or found.others:
        return None
    by_name = {one.feature: one for one in found.contributions}
    if not by_name.keys() >= set(features):
        return None
    amounts = [by_name[name].amount or 0.0 for name in features]
    greatest = max(map(abs, amounts)) or 1.0
    squares = [
        svg.element(
            "rect",
            class_="raises" if amount > 0 else "lowers",
            x=place % image.width * _PIXEL,
            y=place // image.width * _PIXEL,
            width=_PIXEL,
            height=_PIXEL,
            fill_opacity=f"{abs(amount) / greatest:.2f}",
        )
        for place, amount in enumerate(amounts)
    ]
    values = [by_name[name].value for name in features]
    numbers = [value if isinstance(value, int | float) else None for value in values]
    drawn = svg.picture(
        squares,
        image.width * _PIXEL,
        image.height * _PIXEL,
        key="pixels",
        title=_("What each pixel contributes"),
        description=_(
            "Pixels that raise the %(outcome)s: %(raising)s; that lower it: %(lowering)s",
            raising=sum(amount > 0 for amount in amounts),
            lowering=sum(amount < 0 for amount in amounts),
            outcome=outcome_words(found.outcome),
        ),
    )
    return PixelMap(data_uri(numbers, image.width, image.height), drawn)
