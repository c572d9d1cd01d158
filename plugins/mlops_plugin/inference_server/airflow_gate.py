"""Who may ask: Airflow's own tokens, judged by its own validator and its auth manager, as in the pages.

What was decided is used for a moment (`known_callers`); what cannot be decided is refused with 503.
"""

from __future__ import annotations

import asyncio
import logging
import threading

from jwt import InvalidTokenError

from mlops_plugin.inference_server.gate import Caller, GateClosed, NotSignedIn
from mlops_plugin.inference_server.known_callers import KnownCallers
from mlops_plugin.masking import masked
from mlops_plugin.web.access import Rights, may_use, require_token_keys, start_auth_manager, user_of_token

_log = logging.getLogger(__name__)


class AirflowGate:
    """Asks Airflow's auth manager, in a thread of its own: it asks databases and keeps state."""

    def __init__(self) -> None:
        start_auth_manager()
        self._callers = KnownCallers(self._ask)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="gate").start()

    async def admit(self, token: str | None, model: str) -> Caller:
        if not token:
            raise NotSignedIn("send a token of Airflow: `Authorization: Bearer ...`")
        return await self._callers.admit(token, model)

    def _ask(self, token: str, model: str) -> asyncio.Future[Caller]:
        asking = asyncio.run_coroutine_threadsafe(_ask_airflow(token, model), self._loop)
        return asyncio.wrap_future(asking)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


async def _ask_airflow(token: str, model: str) -> Caller:
    try:
        user = await user_of_token(token)
        rights = Rights(user)
        return Caller(
            str(user.get_name()),
            may_use(user, "Showroom"),
            rights.may_read(model),
            rights.may_trigger(model),
        )
    except InvalidTokenError as error:
        _require_keys()
        raise NotSignedIn("the token is invalid, expired or revoked; get a new one from Airflow") from error
    except Exception as error:
        _log.warning("a token could not be checked: %s", masked(str(error)))
        raise GateClosed(
            "this token cannot be checked now: Airflow's auth manager or its database fails; "
            "see the server's log"
        ) from error


def _require_keys() -> None:
    """Raise `GateClosed` if tokens look invalid because the keys that verify them could not be fetched."""
    try:
        require_token_keys()
    except RuntimeError as error:
        raise GateClosed(f"the keys that verify tokens are missing: {error}") from error
