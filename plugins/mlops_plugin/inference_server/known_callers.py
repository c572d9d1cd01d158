"""Who was let in a moment ago: each token is asked about once for all requests that bring it."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from mlops_plugin.inference_server.gate import Caller, GateClosed, NotSignedIn

TRUSTED_S = 1.0  # a revoked token ends within it
_RENEWED_S = 0.5  # from then on it is asked again, while requests are still let in by the last answer
_DECIDED_WITHIN_S = 5.0
_MOST_KNOWN = 10_000

_Place = bytes  # the hash of a token and a model's name, which its caller may have made up at any length
# Starts asking; the future is of the loop that calls.
Ask = Callable[[str, str], "asyncio.Future[Caller]"]


@dataclass(frozen=True)
class _Known:
    asked_at: float
    caller: Caller


class KnownCallers:
    """Used by one event loop."""

    def __init__(self, ask: Ask, trusted_s: float = TRUSTED_S, renewed_s: float = _RENEWED_S) -> None:
        self._ask = ask
        self._trusted_s = trusted_s
        self._renewed_s = renewed_s
        self._known: dict[_Place, _Known] = {}
        self._asking: dict[_Place, tuple[float, asyncio.Future[Caller]]] = {}

    async def admit(self, token: str, model: str) -> Caller:
        """What the token's owner may do; raises what asking raises, or `GateClosed` if it takes too long."""
        place = hashlib.blake2b(f"{token}\0{model}".encode("utf-8", "replace")).digest()
        known, now = self._known.get(place), time.monotonic()
        if known is not None and now - known.asked_at < self._trusted_s:
            if now - known.asked_at > self._renewed_s:
                self._asked(place, token, model)
            return known.caller
        try:
            return await asyncio.wait_for(asyncio.shield(self._asked(place, token, model)), _DECIDED_WITHIN_S)
        except TimeoutError as error:
            raise GateClosed(
                f"this token could not be checked within {_DECIDED_WITHIN_S:.0f} s: Airflow's auth "
                "manager or its database does not answer"
            ) from error

    def _asked(self, place: _Place, token: str, model: str) -> asyncio.Future[Caller]:
        """The answer that is awaited already, if it was asked for a moment ago, or else a new one."""
        now = time.monotonic()
        asked_at, asking = self._asking.get(place, (now, None))
        if asking is None or now - asked_at >= self._trusted_s:
            asking = self._ask(token, model)
            self._asking[place] = now, asking
            asking.add_done_callback(functools.partial(self._learn, place, now))
        return asking

    def _learn(self, place: _Place, asked_at: float, asking: asyncio.Future[Caller]) -> None:
        if self._asking.get(place, (0.0, None))[1] is asking:
            del self._asking[place]
        if asking.cancelled():
            return
        error = asking.exception()
        if isinstance(error, NotSignedIn):
            self._known.pop(place, None)
        elif error is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[place] = _Known(asked_at, asking.result())
