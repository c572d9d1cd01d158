"""What one user may see of the site: models, dispatches and error texts, by the right to read each DAG.

Every view reads models and dispatches through `Visible`. What is unknown and what is forbidden look the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, HTTPException

from mlops_plugin.config.loader import shown_path
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import BrokenModel, Problem, UnknownModel
from mlops_plugin.events.reading import DispatchFilter
from mlops_plugin.events.records import DispatchRecord
from mlops_plugin.web.access import Rights, RightsDep, require_trigger
from mlops_plugin.web.languages.translation import gettext as _
from mlops_plugin.web.shared_site import Site, SiteDep

HIDDEN_FAULT = "this entry conflicts with a model that you may not see; ask an administrator"


@dataclass(frozen=True)
class Visible:
    """The site as one user may see it; methods raise `ConfigError` if the whole configuration is invalid."""

    site: Site
    rights: Rights

    @property
    def models(self) -> Mapping[str, ModelConfig]:
        """The valid models, in the order of the configuration."""
        models = self.site.loaded().config.models
        return {name: models[name] for name in self.rights.readable(models)}

    @property
    def broken(self) -> Mapping[str, tuple[Problem, ...]]:
        """The models with invalid entries, and what is wrong with each."""
        broken = self.site.loaded().broken
        return {name: self._readable_faults(broken[name]) for name in self.rights.readable(broken)}

    @property
    def names(self) -> list[str]:
        """All models of the configuration."""
        loaded = self.site.loaded()
        return self.rights.readable([*loaded.config.models, *loaded.broken])

    def model(self, name: str) -> ModelConfig:
        """The model; raises `UnknownModel`, or `BrokenModel` if its entry is invalid."""
        loaded = self.site.loaded()
        # Asked of a name that does not exist, too: both ways take the same time.
        may_read = self.rights.may_read(name)
        if may_read and name in loaded.config.models:
            return loaded.config.models[name]
        if may_read and name in loaded.broken:
            raise BrokenModel(self._readable_faults(loaded.broken[name]))
        message = f"there is no model '{name}', or you may not read its DAG"
        raise UnknownModel([Problem(shown_path(loaded.path), None, "models", message)])

    def runnable(self, name: str) -> ModelConfig:
        """The same, for a user who may trigger its DAG; others get 403."""
        model = self.model(name)
        require_trigger(self.rights, name)
        return model

    def dispatch(self, dispatch_id: str) -> DispatchRecord:
        """The dispatch of that id; 404 if there is none."""
        dispatch = self.site.event_store().get(dispatch_id)
        # Rights are asked also where there is no dispatch: an id can be computed from its DAG and run, and a
        # quicker 404 would say that there is none.
        may_read = self.rights.may_read_all() if dispatch is None else self.rights.may_read(dispatch.model)
        if dispatch is None or not may_read:
            raise HTTPException(
                404,
                _(
                    "there is no dispatch '%(id)s': it was deleted, or you may not read its model's DAG",
                    id=dispatch_id,
                ),
            )
        return dispatch

    def passing(self, wanted: DispatchFilter) -> DispatchFilter:
        """The filter, restricted to models that the user may read."""
        if wanted.model is not None:
            models = self.rights.readable([wanted.model])
            return wanted if models else replace(wanted, models=())
        names = self.site.known_models()
        readable = self.rights.readable(names)
        # Others than those that are known may have had their first dispatch a moment ago.
        if self.rights.may_read_all() and len(readable) == len(names):
            return wanted
        return replace(wanted, models=tuple(readable))

    def _readable_faults(self, problems: Sequence[Problem]) -> tuple[Problem, ...]:
        loaded = self.site.loaded()
        hidden = [name for name in (*loaded.config.models, *loaded.broken) if not self.rights.may_read(name)]
        return tuple(
            replace(problem, message=HIDDEN_FAULT) if _names_any(problem.message, hidden) else problem
            for problem in problems
        )


def _names_any(text: str, names: Sequence[str]) -> bool:
    return any(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text) for name in names)


async def _visible(site: SiteDep, rights: RightsDep) -> Visible:
    return Visible(site, rights)


VisibleDep = Annotated[Visible, Depends(_visible)]
