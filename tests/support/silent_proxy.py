"""A proxy before a database that goes silent: connections stay open, requests are taken, nothing is said."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class SilentProxy:
    """Passes everything on until `is_silent`.

    It becomes that by itself when a request matches `at` (which the server never hears of; only after one
    that matches `armed_by`, if given), or when it has passed `after_bytes` of answers on. `heard` counts the
    requests that found it silent. New connections are silent as well.
    """

    target: tuple[str, int]
    port: int = 0
    at: re.Pattern[bytes] | None = None
    stays_open: bool = False  # a match is only told to `on_match`
    on_match: Callable[[], None] | None = None
    armed_by: re.Pattern[bytes] | None = None
    after_bytes: int | None = None
    is_silent: bool = False
    heard: int = 0
    _passed: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)

    def serve(self, server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            self._sockets.append(client)
            upstream = None
            if not self.is_silent:
                upstream = socket.create_connection(self.target)
                self._sockets.append(upstream)
                threading.Thread(target=self._answers, args=(client, upstream), daemon=True).start()
            threading.Thread(target=self._requests, args=(client, upstream), daemon=True).start()

    def fall_silent(self) -> None:
        self.is_silent = True

    def _match(self) -> None:
        if self.on_match is not None:
            self.on_match()
        self.is_silent = self.is_silent or not self.stays_open

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _requests(self, client: socket.socket, upstream: socket.socket | None) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if self.armed_by is not None and self.armed_by.search(data):
                    self.armed_by = None
                elif self.armed_by is None and self.at is not None and self.at.search(data):
                    self._match()
                if self.is_silent or upstream is None:
                    self.heard += 1
                else:
                    upstream.sendall(data)
        # The client has gone. A server that nothing was heard of does not hear of that, either.
        if upstream is not None and not self.is_silent:
            with suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)

    def _answers(self, client: socket.socket, upstream: socket.socket) -> None:
        with suppress(OSError):
            while data := upstream.recv(1 << 16):
                self._passed += len(data)
                if self.after_bytes is not None and self._passed > self.after_bytes:
                    self.is_silent = True
                if self.is_silent:
                    return  # what comes now fills the buffers, as behind a network that is cut
                client.sendall(data)
        if not self.is_silent:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


@contextmanager
def silent_proxy(host: str, port: int) -> Iterator[SilentProxy]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = SilentProxy((host, port), server.getsockname()[1])
        thread = threading.Thread(target=proxy.serve, args=(server,))
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            proxy.close()
