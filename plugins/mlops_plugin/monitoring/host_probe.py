"""Whether a TCP port accepts connections, by every address of its host at once."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from typing import Any

from mlops_plugin.monitoring.probe_result import Notes, Outcome, Step

RESOLVING = "name resolution"
_Address = tuple[socket.AddressFamily, tuple[Any, ...]]
_FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
_MOST_ADDRESSES = 16  # of one name; more are not tried
_OUTCOMES: dict[int, Outcome] = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timed out",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",
    errno.EAFNOSUPPORT: "unreachable",
}


def probe_host(host: str, port: int, timeout_s: float, notes: Notes) -> None:
    """Resolve and connect; connections are closed at once. `notes` say which stage failed, and how.

    Resolving a name cannot be interrupted: it may take longer than the timeout.
    """
    deadline = time.monotonic() + timeout_s
    is_literal = is_address(host)
    addresses = _resolve(host, port, notes, is_literal=is_literal)
    if addresses and not is_literal:
        _note_missing_families(addresses, notes)
    _connect_all(addresses, deadline, notes)


def is_address(host: str) -> bool:
    """Whether a host is written as an IPv4 or IPv6 address; nothing is asked of the network."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True


def _resolve(host: str, port: int, notes: Notes, *, is_literal: bool) -> list[_Address]:
    if not is_literal:
        notes.begin(RESOLVING)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        if is_literal:
            notes.begin(RESOLVING)
        notes.end(RESOLVING, "failed", getattr(error, "strerror", None) or str(error))
        return []
    if not is_literal:
        notes.end(RESOLVING, "ok")
    known: list[_Address] = [(family, address) for family, _, _, _, address in found if family in _FAMILIES]
    return list(dict.fromkeys(known))[:_MOST_ADDRESSES]


def _note_missing_families(addresses: list[_Address], notes: Notes) -> None:
    for family, name in _FAMILIES.items():
        if all(family != found for found, _ in addresses):
            notes.add(Step(name, "no address", 0.0))


def _connect_all(addresses: list[_Address], deadline: float, notes: Notes) -> None:
    with selectors.DefaultSelector() as selector:
        for family, address in addresses:
            name, shown = _FAMILIES[family], str(address[0])
            notes.begin(name, shown)
            try:
                connection = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                notes.end(name, *_outcome(error.errno), address=shown)
                continue
            connection.setblocking(False)
            code = connection.connect_ex(address)
            if code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
                selector.register(connection, selectors.EVENT_WRITE, (name, shown))
            else:
                connection.close()
                notes.end(name, *_outcome(code), address=shown)
        _await_answers(selector, deadline, notes)


def _await_answers(selector: selectors.BaseSelector, deadline: float, notes: Notes) -> None:
    while selector.get_map() and (left := deadline - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            name, shown = key.data
            connection = key.fileobj
            selector.unregister(connection)
            assert isinstance(connection, socket.socket)  # noqa: S101 -- nothing else is registered
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            connection.close()
            notes.end(name, *_outcome(code), address=shown)
    for key in list(selector.get_map().values()):
        name, shown = key.data
        selector.unregister(key.fileobj)
        assert isinstance(key.fileobj, socket.socket)  # noqa: S101
        key.fileobj.close()
        notes.end(name, "timed out", address=shown)


def _outcome(code: int | None) -> tuple[Outcome, str | None]:
    """The outcome of an error number, and the system's message if it says more than the outcome."""
    if not code:
        return "ok", None
    outcome = _OUTCOMES.get(code, "failed")
    return outcome, None if outcome in ("refused", "timed out") else os.strerror(code)
