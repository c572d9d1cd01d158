"""What is used of an MLflow model's description: which file, read as which format, and its input.

A model's own environment has neither YAML nor pydantic. So the caller describes the model, as data, and its
process gets this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlops_plugin.formats.mlflow_models.trained_input import TrainedInput


@dataclass(frozen=True)
class Flavour:
    """One way to read a model: our `format` and the file's path in the folder."""

    name: str
    format: str
    path: str


@dataclass(frozen=True)
class LoggedModel:
    """`sha256` (64 hex digits) is that of the description's own bytes."""

    sha256: str
    flavour: Flavour
    input: TrainedInput | None

    def as_data(self) -> dict[str, Any]:
        """As JSON, for a model's process."""
        return asdict(self)

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> LoggedModel:
        """Read what `as_data` makes."""
        trained = data["input"]
        if trained is not None:
            names = None if trained["names"] is None else tuple(trained["names"])
            trained = TrainedInput(names, tuple(trained["dtypes"]), trained["is_of_any_width"])
        return cls(data["sha256"], Flavour(**data["flavour"]), trained)
