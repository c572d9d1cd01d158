"""Listeners of every temper: they answer, they do not, they accept and stay silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def listener(address: str = "127.0.0.1") -> Iterator[int]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        yield server.getsockname()[1]


@contextmanager
def deaf_listener(address: str = "127.0.0.1") -> Iterator[int]:
    """A port whose queue is full: whoever connects gets no answer, as from a host that is off."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    everywhere = "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server((everywhere, 0), family=family, backlog=0))
        port = server.getsockname()[1]
        first = stack.enter_context(socket.create_connection((address, port)))
        assert first.getpeername()[1] == port  # it waits in the queue now, which has room for no other
        yield port


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def accept() -> None:
            while True:
                try:
                    stack.enter_context(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
