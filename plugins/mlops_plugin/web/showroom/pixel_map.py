"""What each pixel contributes, as a picture beside the picture that was explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mlops_plugin.config.schema import ImageConfig
from mlops_plugin.events.details.explanations import Explanation
from mlops_plugin.web import svg
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.showroom.picture import data_uri
from mlops_plugin.web.showroom.reasons import outcome_words

_PIXEL = 10


@dataclass(frozen=True)
class PixelMap:
    """`picture` is a link to the picture as the model saw it, `svg` has a square for each contribution."""

    picture: str | None
    svg: Markup


def pixel_map(found: Explanation, features: Sequence[str], image: ImageConfig | None) -> PixelMap | None:
    """None if the features, in the model's order, are no picture, or not all contributions are kept."""
    if image is None or len(features) != image.width * image.height or found.others:
        return None
    by_name = {one.feature: one for one in found.contributions}
    if not by_name.keys() >= set(features):
        return None
    amounts = [by_name[name].amount or 0.0 for name in features]
    greatest = max(map(abs, amounts)) or 1.0
    squares = [
        svg.element(
            "rect",
            class_="raises" if amount > 0 else "lowers",
            x=place % image.width * _PIXEL,
            y=place // image.width * _PIXEL,
            width=_PIXEL,
            height=_PIXEL,
            fill_opacity=f"{abs(amount) / greatest:.2f}",
        )
        for place, amount in enumerate(amounts)
    ]
    values = [by_name[name].value for name in features]
    numbers = [value if isinstance(value, int | float) else None for value in values]
    drawn = svg.picture(
        squares,
        image.width * _PIXEL,
        image.height * _PIXEL,
        key="pixels",
        title=_("What each pixel contributes"),
        description=_(
            "Pixels that raise the %(outcome)s: %(raising)s; that lower it: %(lowering)s",
            raising=sum(amount > 0 for amount in amounts),
            lowering=sum(amount < 0 for amount in amounts),
            outcome=outcome_words(found.outcome),
        ),
    )
    return PixelMap(data_uri(numbers, image.width, image.height), drawn)
