"""Who may ask, as the app sees it; `airflow_gate` decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mlops_plugin.errors import MlopsError


class NotSignedIn(MlopsError):
    """The token is missing, invalid, expired or revoked."""


class GateClosed(MlopsError):
    """Whether the caller may ask cannot be known now."""


@dataclass(frozen=True)
class Caller:
    """What a caller may do with one model. `may_run_models`: the permission `can_create` on Showroom."""

    name: str
    may_run_models: bool
    may_read: bool
    may_trigger: bool


class Gate(Protocol):
    """Decides about a caller by its token."""

    async def admit(self, token: str | None, model: str) -> Caller:
        """What the token's owner may do; raises `NotSignedIn` or `GateClosed`."""
        ...
