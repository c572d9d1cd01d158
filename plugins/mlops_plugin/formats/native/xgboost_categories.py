"""The categories of pandas that XGBoost keeps, as far as it keeps them rightly."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from mlops_plugin.errors import FeatureError


def kept_categories(booster: Any) -> dict[int, list[Any]] | None:
    """The categories by the places of their columns; None if XGBoost kept none."""
    known = booster.get_categories(export_to_arrow=True).to_arrow()
    if known is None:
        return None
    return {place: _listed(values) for place, (_, values) in enumerate(known) if values is not None}


def require_whole_texts(name: str, categories: list[Any]) -> None:
    """Raise `FeatureError` for texts beyond ASCII.

    XGBoost cuts the bytes of all texts at the places of their characters: behind 'São', 'rio' becomes 'ori'.
    """
    if not all(category.isascii() for category in categories if isinstance(category, str)):
        raise FeatureError(
            f"XGBoost does not keep categories with letters beyond ASCII, as '{name}' has some, and nothing "
            "tells what they were; write a signature where the model is trained"
        )


def _listed(values: pa.Array) -> list[Any]:
    if not pa.types.is_string(values.type):
        return values.to_pylist()  # type: ignore[no-any-return]
    return [text.decode(errors="replace") for text in values.cast(pa.binary()).to_pylist()]
