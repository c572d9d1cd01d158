"""Models that write answers of their own onto the worker's socket; pickled by tests, run by workers."""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

_FRAME = struct.Struct("!4sQIQ")
_HUGE = 1 << 30


class Forging:
    """A regressor that answers `a`, or, if `a` is the number of one in `FORGERIES`, writes that to the
    socket.

    It finds the number of the request that it answers in the worker's own memory.
    """

    n_features_in_ = 3
    _estimator_type = "regressor"

    def predict(self, rows: Any) -> Any:
        values = np.asarray(rows, dtype=float)[:, 0]
        if len(values) and values[0] >= 100:
            forge = list(FORGERIES.values())[int(values[0]) - 100]
            forge(self)
        return values

    @property
    def request(self) -> int:
        """The number of the request that the worker is answering."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code.co_name != "answer_one":
            frame = frame.f_back
        return 1 if frame is None else int(frame.f_locals["number"])

    def write(
        self, header: object, body: bytes = b"", *, number: int | None = None, claimed: int | None = None
    ) -> None:
        """Write a message; `claimed`: the size that it gives for its body."""
        text = json.dumps(header).encode() if not isinstance(header, bytes) else header
        frame = _FRAME.pack(
            b"mlp1", number or self.request, len(text), len(body) if claimed is None else claimed
        )
        os.write(int(sys.argv[1]), frame + text + body)


def _answer(*sizes: int | None, rows: int = 1) -> dict[str, Any]:
    return {"kind": "predicted", "rows": rows, "buffers": [list(sizes)]}


def _half(model: Forging) -> None:
    os.write(int(sys.argv[1]), _FRAME.pack(b"mlp1", model.request, 100, 8))
    time.sleep(3600)


def _drip(model: Forging) -> None:
    os.write(int(sys.argv[1]), _FRAME.pack(b"mlp1", model.request, 1000, 8))
    while True:
        os.write(int(sys.argv[1]), b" ")
        time.sleep(0.05)


_VALUE = struct.pack("d", 666.0)
FORGERIES: dict[str, Callable[[Forging], object]] = {
    "an answer before the answer": lambda model: model.write(_answer(None, 8), _VALUE),
    "the answer to the next request": lambda model: model.write(
        _answer(None, 8), _VALUE, number=model.request + 1
    ),
    "the answer to another request": lambda model: model.write(_answer(None, 8), _VALUE, number=999),
    "no message": lambda _: os.write(int(sys.argv[1]), b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100),
    "a header that is no JSON": lambda model: model.write(b"\xff\xfe{"),
    "a header of another kind": lambda model: model.write({"kind": "loaded"}),
    "a header with more in it": lambda model: model.write(_answer(None, 8) | {"extra": 1}, _VALUE),
    "a body of 1 GiB": lambda model: model.write(_answer(None, _HUGE), claimed=_HUGE),
    "half a message": _half,
    "a message byte by byte": _drip,
    "too few bytes": lambda model: model.write(_answer(None, 4), b"1234"),
    "sizes that do not add up": lambda model: model.write(_answer(None, 800), _VALUE),
    "a negative size": lambda model: model.write(_answer(-8, 16), _VALUE),
    "too many rows": lambda model: model.write(_answer(None, 16, rows=2), _VALUE * 2),
    "too many buffers": lambda model: model.write(_answer(None, 4, 4), _VALUE),
    "another number of columns": lambda model: model.write({"kind": "predicted", "rows": 1, "buffers": []}),
}


class Counting:
    """A regressor that answers how often it has been asked about many rows."""

    n_features_in_ = 3
    _estimator_type = "regressor"
    asked = 0

    def predict(self, rows: Any) -> Any:
        self.asked += len(rows) > 100
        return np.full(len(rows), float(self.asked))


class Disorderly(Forging):
    """Like `Forging` with `DISORDERS`, about many rows: while it answers one request, the next one waits."""

    def predict(self, rows: Any) -> Any:
        values = np.asarray(rows, dtype=float)[:, 0]
        if len(values) > 1 and values[0] >= 100:
            list(DISORDERS.values())[int(values[0]) - 100](self, len(values))
        return values

    def answer(self, rows: int, number: int) -> None:
        self.write(_answer(None, 8 * rows, rows=rows), _VALUE * rows, number=number)


def _take_next() -> int:
    """Read the next request off the socket, as only the worker should; its number."""
    channel = int(sys.argv[1])
    _, number, header_bytes, _ = _FRAME.unpack(os.read(channel, _FRAME.size))
    os.read(channel, header_bytes)
    return int(number)


def _overtake(model: Disorderly, rows: int) -> None:
    own = model.request
    model.answer(rows, _take_next())
    model.answer(rows, own)


def _answer_twice(model: Disorderly, rows: int) -> None:
    model.answer(rows, model.request)  # and the worker does


def _answer_none(_model: Disorderly, _rows: int) -> None:
    os.close(int(sys.argv[1]))


DISORDERS: dict[str, Callable[[Disorderly, int], None]] = {
    "the next answer first": _overtake,
    "one answer twice": _answer_twice,
    "the second before it is asked": lambda model, rows: model.answer(rows, model.request + 1),
    "a closed socket": _answer_none,
}


class ForgingSignature(Forging):
    """While it is signed, it has another signature sent than the one that the worker writes."""

    def __init__(self, forgery: str) -> None:
        self.forgery = forgery

    def __setstate__(self, state: dict[str, Any]) -> None:
        from mlops_plugin.formats.signature import signing

        self.__dict__.update(state)
        sign, forge = signing.sign, SIGNATURES[self.forgery]

        def sign_otherwise(*rows: Any, **settings: Any) -> Any:
            written, again = sign(*rows, **settings)
            return forge(written), again

        signing.sign = sign_otherwise


# What a signature becomes; the model itself answers as it should.
SIGNATURES: dict[str, Callable[[bytes], bytes]] = {
    "said to be of made-up rows": lambda content: content.replace(b'"training"', b'"synthetic"'),
    "with no number": lambda content: content[:-2] + b', "more": NaN}',
    "no JSON": lambda _: b"[" * 100_000,
    "without golden rows": lambda content: content.replace(b'"golden"', b'"silver"'),
}
