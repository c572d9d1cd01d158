"""A proxy before a database that passes everything on, or hangs, resets, or throttles as it is told."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

Manner = Literal["pass", "hang", "throttle"]
_LOOK_S = 0.05
_THROTTLED_S = 0.3  # that each piece waits
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class FaultyProxy:
    """`manner` is how it treats all connections; `reset` breaks those that are open."""

    target: tuple[str, int]
    port: int = 0
    manner: Manner = "pass"
    _sockets: set[socket.socket] = field(default_factory=set)

    def serve(self, server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            try:
                upstream = socket.create_connection(self.target)
            except OSError:
                client.close()  # the database is away
                continue
            self._sockets |= {client, upstream}
            for pair in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def reset(self) -> None:
        """Break every open connection, as a firewall does that has forgotten them."""
        for each in [*self._sockets]:
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                each.shutdown(socket.SHUT_RDWR)
            self._close(each)

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                while self.manner == "hang":
                    time.sleep(_LOOK_S)
                if self.manner == "throttle":
                    time.sleep(_THROTTLED_S)
                other.sendall(data)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            self._close(each)

    def _close(self, one: socket.socket) -> None:
        self._sockets.discard(one)
        one.close()


@contextmanager
def faulty_proxy(host: str, port: int) -> Iterator[FaultyProxy]:
    """A proxy on a port of its own before the server at this address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = FaultyProxy((host, port), server.getsockname()[1])
        thread = threading.Thread(target=proxy.serve, args=(server,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            proxy.reset()
