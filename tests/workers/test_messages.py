"""Messages between a model's process and its caller: each is held to its own deadline alone."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from mlops_plugin.workers.messages import Channel, Checked

IN_FRAME = 30  # bytes: the frame, and a little of what it announces


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def _bytes_of(number: int) -> bytes:
    """An answer as it goes through the socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Channel(ours).send(number, Checked([]))
        return theirs.recv(1 << 16)


class _Awaited(socket.socket):
    """Something arrives as soon as somebody is about to wait for it."""

    _rest: Callable[[], None]

    def arrive(self, theirs: socket.socket, content: bytes) -> None:
        theirs.sendall(content[:IN_FRAME])
        self._rest = lambda: theirs.sendall(content[IN_FRAME:])

    def settimeout(self, value: float | None) -> None:
        super().settimeout(value)
        if value is not None:
            self._rest()


def test_the_deadline_of_one_answer_is_not_that_of_the_next(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    theirs = ends[1]
    with _Awaited(fileno=ends[0].detach()) as ours:
        caller = Channel(ours)
        for number, within_s in ((1, 5.0), (2, 60.0)):
            ours.arrive(theirs, _bytes_of(number))
            answer, body = caller.receive_answer(number, 0, time.monotonic() + within_s)
            assert (answer, bytes(body)) == (Checked([]), b"")


def test_a_message_that_went_with_its_descriptors_is_followed_by_nothing() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        Channel(ours).send(1, Checked([]), [b""], time.monotonic() + 60, [ours.fileno()])
        content, handed, _, _ = socket.recv_fds(theirs, 1 << 16, 1)
        for descriptor in handed:
            os.close(descriptor)
        assert content
        with pytest.raises(BlockingIOError):
            theirs.recv(1, socket.MSG_DONTWAIT)
