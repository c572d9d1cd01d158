"""A proxy before a database that cuts the connection while the answer to a COMMIT is on its way."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_WRITES = re.compile(rb"INSERT INTO|LOAD DATA|COPY (?!\()", re.IGNORECASE)  # COPY (SELECT reads
_COMMITS = re.compile(rb"\bCOMMIT\b", re.IGNORECASE)  # a transaction may begin with READ COMMITTED


@dataclass
class SeveringProxy:
    """Passes everything on. Once armed, the first COMMIT after a write to `table` reaches the server, and the
    client sees its connection reset instead of the answer."""

    target: tuple[str, int]
    table: bytes
    port: int = 0
    severed: int = 0
    messages: int = 0  # of clients to the server
    is_armed: bool = False
    _sockets: list[socket.socket] = field(default_factory=list)

    def serve(self, server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            upstream = socket.create_connection(self.target)
            self._sockets += [client, upstream]
            for work in (self._requests, self._answers):
                threading.Thread(target=work, args=(client, upstream), daemon=True).start()

    def close(self) -> None:
        for each in self._sockets:
            _close(each)

    def _requests(self, client: socket.socket, upstream: socket.socket) -> None:
        has_written = False
        with suppress(OSError):
            while data := client.recv(1 << 20):
                self.messages += 1
                has_written = has_written or bool(_WRITES.search(data) and self.table in data)
                commits = bool(_COMMITS.search(data))
                is_fatal = self.is_armed and has_written and commits
                has_written = has_written and not commits
                if is_fatal:
                    self.is_armed = False
                    self.severed += 1
                    _close(client)  # the answer finds nobody
                upstream.sendall(data)
                if is_fatal:
                    return
        _close(upstream)

    def _answers(self, client: socket.socket, upstream: socket.socket) -> None:
        with suppress(OSError):
            while data := upstream.recv(1 << 16):
                with suppress(OSError):
                    client.sendall(data)
        _close(client)
        _close(upstream)


@contextmanager
def severing_proxy(host: str, port: int, table: str) -> Iterator[SeveringProxy]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = SeveringProxy((host, port), table.encode(), server.getsockname()[1])
        thread = threading.Thread(target=proxy.serve, args=(server,))
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            proxy.close()


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
