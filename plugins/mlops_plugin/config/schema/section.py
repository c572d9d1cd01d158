"""What every section of the configuration is: frozen, strict, unknown keys refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    # Built on first use: a task needs the types of one model, `mlops schema` needs them all.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


def build_sections(of: type[BaseModel] = Section) -> None:
    """Build the validators of all sections, for a process that forks those that use them."""
    for section in of.__subclasses__():
        section.model_rebuild()  # nothing is done if it is built
        build_sections(section)
