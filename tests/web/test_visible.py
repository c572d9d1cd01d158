"""What one user may see: not even the time of an answer tells of what is hidden."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import HTTPException


class _NoRights:
    """May read nothing, and counts how often that is asked."""

    asked = 0

    def may_read(self, _dag_id: str) -> bool:
        self.asked += 1
        return False

    def may_read_all(self) -> bool:
        return self.may_read("any")


@pytest.mark.filterwarnings("ignore:Using `httpx`")  # of a library that Airflow loads
def test_as_much_is_asked_about_an_unknown_dispatch_as_about_a_forbidden_one() -> None:
    """The id of a run can be computed: else its time would tell whether the run was there."""
    from mlops_plugin.web.visible import Visible

    store = SimpleNamespace(get={"known": SimpleNamespace(model="gone")}.get)
    site: Any = SimpleNamespace(event_store=lambda: store)
    asked = []
    for dispatch_id in ("known", "unknown"):
        rights = _NoRights()
        with pytest.raises(HTTPException):
            Visible(site, cast("Any", rights)).dispatch(dispatch_id)
        asked.append(rights.asked)
    assert asked == [1, 1]
