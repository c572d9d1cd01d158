"""What MLflow's signature says of a model's input: features and their types of training.

A model's own environment reads this without pydantic; `input_parsing` makes it of the signature's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlops_plugin.errors import FeatureError


@dataclass(frozen=True)
class TrainedInput:
    """Types in the order of training; `names` None: a matrix, `dtypes` of any width if `is_of_any_width`."""

    names: tuple[str, ...] | None
    dtypes: tuple[str, ...]
    is_of_any_width: bool = False

    def features(self, uri: str, configured: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """The columns that the model reads, as far as the signature or the configuration knows them.

        Raises `FeatureError` if they disagree.
        """
        if self.names is None or configured is None:
            found = configured or self.names
            if found is not None and not self.is_of_any_width and len(found) != len(self.dtypes):
                raise FeatureError(
                    f"`features:` names {len(found)} columns, but MLflow's signature of '{uri}' has "
                    f"{len(self.dtypes)}; name them all, in the order of training"
                )
            return found
        if configured != self.names:
            raise FeatureError(
                f"`features:` says {', '.join(configured)}, but MLflow's signature of '{uri}' says "
                f"{', '.join(self.names)}; remove `features:`"
            )
        return self.names

    def by_name(self, uri: str, features: tuple[str, ...] | None) -> Mapping[str, str]:
        """The type of each feature; raises `FeatureError` if a type matters and nobody names its column."""
        if features is None:
            if set(self.dtypes) == {"number"}:
                return {}
            raise FeatureError(
                f"MLflow's signature of '{uri}' has {self.dtypes[0]} without names; set `features:` to the "
                "columns in the order of training"
            )
        dtypes = self.dtypes * len(features) if self.is_of_any_width else self.dtypes
        return dict(zip(features, dtypes, strict=True))
