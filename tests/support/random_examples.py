"""How many random examples a test tries: as many as it names, or ten times as many in `make test-long`."""

from __future__ import annotations

import os

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
_TIMES_IN_LONG = 10


def examples(usual: int) -> int:
    """For `max_examples`: `usual`, or more of them in `make test-long`."""
    return usual * _TIMES_IN_LONG if PROFILE == "long" else usual
