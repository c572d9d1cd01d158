"""Pixels of a row as a small PNG, for models whose features are a picture."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence


def data_uri(pixels: Sequence[float | None], width: int, height: int) -> str | None:
    """A greyscale picture from the darkest value to the brightest; None if the pixels do not fit."""
    if len(pixels) != width * height:
        return None
    values = [0.0 if pixel is None or pixel != pixel else float(pixel) for pixel in pixels]
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
