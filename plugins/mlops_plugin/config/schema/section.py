"""What every section of the configuration is: frozen, strict, unknown keys refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    # Built on first use: a task needs the types of one model, `mlops schema` needs them all.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)
