"""Clients that ask a server one after the other, each over a connection of its own that stays open."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_WAITS_S = 60.0


@dataclass(frozen=True)
class Service:
    """Where requests go, and what they say in turn: each is about another row."""

    port: int
    path: str
    bodies: Sequence[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def requests(self) -> list[bytes]:
        """The requests, as they are sent."""
        return [self._request(body) for body in self.bodies]

    def _request(self, body: bytes) -> bytes:
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Asked:
    """Milliseconds that each request took, and the seconds that all took together."""

    milliseconds: list[float]
    seconds: float

    @property
    def per_second(self) -> float:
        return len(self.milliseconds) / self.seconds

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.milliseconds, n=100, method="inclusive")[percent - 1]


def ask(service: Service, *, clients: int, seconds: float) -> Asked:
    """Let so many clients ask for so long; any answer but 200 ends the benchmark."""
    return asyncio.run(_ask(service, clients, seconds))


async def _ask(service: Service, clients: int, seconds: float) -> Asked:
    began = time.perf_counter()
    work = (_one_client(service, began + seconds) for _ in range(clients))
    spent = [each for client in await asyncio.gather(*work) for each in client]
    return Asked(spent, time.perf_counter() - began)


async def _one_client(service: Service, until: float) -> list[float]:
    requests, spent = itertools.cycle(service.requests), []
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    while (began := time.perf_counter()) < until:
        writer.write(next(requests))
        async with asyncio.timeout(_WAITS_S):
            await _read_answer(reader, service)
        spent.append((time.perf_counter() - began) * 1000)
    writer.close()
    await writer.wait_closed()
    return spent


async def _read_answer(reader: asyncio.StreamReader, service: Service) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split(" ", 2)[1])
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    body = await reader.readexactly(length)
    if status != 200:
        raise SystemExit(f"{service.path}: {status} {body.decode(errors='replace')[:500]}")
