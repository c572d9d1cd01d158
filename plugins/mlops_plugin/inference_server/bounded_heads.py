"""Uvicorn's protocol with a limit for what is not a request's body: httptools has none.

Without it, anybody could send a header, or a trailer, without end, and keep the server busy with it.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_BYTES = 64 << 10  # of an address and its headers, as h11 allows
_MOST_TIMES = 8  # the sizes of chunks, and what follows the last one, compared with the body


class BoundedHeads(HttpToolsProtocol):
    """For `http=` of uvicorn."""

    _body_bytes = 0
    _other_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._other_bytes += len(data)
        super().data_received(data)
        most = MOST_BYTES + _MOST_TIMES * self._body_bytes
        if self._other_bytes > most and not self.transport.is_closing():
            self.send_400_response("the request's headers are too long")

    def on_message_begin(self) -> None:
        self._body_bytes = self._other_bytes = 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._other_bytes -= len(body)
        super().on_body(body)
