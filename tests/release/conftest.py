"""The wheel of this checkout."""

from __future__ import annotations

import pytest

from support.built_wheel import BuiltWheel, build_wheel


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuiltWheel:
    return build_wheel(tmp_path_factory.mktemp("release"))
