"""How a state looks: the class of its badge in mlops.css. The word itself always stands in the badge."""

from __future__ import annotations

from collections.abc import Mapping

_OK, _INFO, _WARN, _BAD = "badge-ok", "badge-info", "badge-warn", "badge-bad"
_LOOKS: Mapping[str, str] = {
    **dict.fromkeys(("ok", "up", "succeeded", "healthy"), _OK),
    **dict.fromkeys(("running",), _INFO),
    **dict.fromkeys(("partly", "late", "overrun", "no end recorded"), _WARN),
    **dict.fromkeys(
        (
            "failed",
            "failing",
            "broken",
            "down",
            "missed",
            "refused",
            "timed out",
            "unreachable",
            "broken configuration",
            "not in Airflow",
        ),
        _BAD,
    ),
}


def badge_of(state: str) -> str:
    """The class for a state of a dispatch, a try, a model, a probe or an incident; "" for a plain badge."""
    return _LOOKS.get(state, "")
